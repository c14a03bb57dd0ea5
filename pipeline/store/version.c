/* version: asks the library itself, since the one that is loaded may be newer than the headers were. */
#include "pipeline/store/version.h"

#include "pipeline/store/hdf5.h"

const char *mq_store_version(void) {
  static char text[64];
  unsigned major = 0, minor = 0, release = 0;
  mq_hdf5_lock();
  H5get_libversion(&major, &minor, &release);
  snprintf(text, sizeof text, "HDF5 %u.%u.%u", major, minor, release);
  mq_hdf5_unlock();
  return text;
}
