/* version: which HDF5 library this process has, for `marquee --version`. */
#ifndef MQ_STORE_VERSION_H
#define MQ_STORE_VERSION_H

/* "HDF5 1.10.8"; static storage. */
const char *mq_store_version(void);

#endif
