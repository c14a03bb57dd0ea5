/* hdf5: what artifact.c needs of the library, and nothing of it anywhere else: one lock, one driver, our messages.
 *
 * Files go through a virtual file driver of our own, over a file descriptor (writing) or a memory map (reading). So a
 * full disk never reaches the library, whose files cannot be closed after a failed write: the driver notes the errno
 * and we report it; reading cannot leave the map; and there are no flock calls, which fail on many network file
 * systems. */
#ifndef MQ_STORE_HDF5_H
#define MQ_STORE_HDF5_H

#include "pipeline/base/base.h"

#include <hdf5.h>

typedef struct mq_hdf5_storage {
  int file;   /* written when >= 0 */
  mq_map map; /* read otherwise */
  haddr_t eoa, eof;
  int error; /* errno of the first failed write */
} mq_hdf5_storage;

/* The library is one big critical section: take this around every H5 call. Silences its error printing. */
void mq_hdf5_lock(void);
void mq_hdf5_unlock(void);

/* An access property list that opens `target`; -1 on failure. The caller closes it. Call with the lock held. */
hid_t mq_hdf5_access(mq_hdf5_storage *target);

/* The innermost message of the library's error stack, for our own; valid until the next H5 call. Lock held. */
const char *mq_hdf5_error(void);

/* The little-endian file type of a dtype (new; H5Tclose), -1 for bfloat16. Lock held. */
hid_t mq_hdf5_type(mq_dtype dtype);

#endif
