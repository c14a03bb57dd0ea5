/* hdf5: the lock and the file driver that every H5 call of this program goes through. */
#include "pipeline/store/hdf5.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static hid_t driver = -1;
static char last_error[256];

typedef struct device {
  H5FD_t base; /* the library's part, first */
  mq_hdf5_storage *storage;
} device;

static H5FD_t *device_open(const char *name, unsigned flags, hid_t access, haddr_t max_address) {
  (void)name, (void)flags, (void)max_address;
  mq_hdf5_storage *const *target = H5Pget_driver_info(access);
  if (!target)
    return NULL;
  device *self = mq_alloc(1, sizeof *self);
  self->storage = *target;
  return &self->base;
}

static herr_t device_close(H5FD_t *file) {
  free(file);
  return 0;
}

static herr_t device_query(const H5FD_t *file, unsigned long *flags) {
  (void)file;
  *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA;
  return 0;
}

static haddr_t device_get_eoa(const H5FD_t *file, H5FD_mem_t type) {
  (void)type;
  return ((const device *)file)->storage->eoa;
}

static herr_t device_set_eoa(H5FD_t *file, H5FD_mem_t type, haddr_t address) {
  (void)type;
  ((device *)file)->storage->eoa = address;
  return 0;
}

static haddr_t device_get_eof(const H5FD_t *file, H5FD_mem_t type) {
  (void)type;
  return ((const device *)file)->storage->eof;
}

static herr_t device_read(H5FD_t *file, H5FD_mem_t type, hid_t transfer, haddr_t address, size_t n_bytes, void *data) {
  (void)type, (void)transfer;
  const mq_hdf5_storage *from = ((device *)file)->storage;
  memset(data, 0, n_bytes); /* what lies behind the end reads as zeros, as the library expects */
  if (from->file >= 0) {
    for (size_t i = 0; i < n_bytes;) {
      ssize_t n = pread(from->file, (char *)data + i, n_bytes - i, (off_t)(address + i));
      if (n < 0 && errno != EINTR)
        return -1;
      if (n == 0)
        break;
      i += n > 0 ? (size_t)n : 0;
    }
  } else if (address < from->map.n) {
    memcpy(data, from->map.at + address, MQ_MIN(n_bytes, from->map.n - address));
  }
  return 0;
}

/* Never fails as far as the library can see: it would not be able to close the file any more. */
static herr_t device_write(H5FD_t *file, H5FD_mem_t type, hid_t transfer, haddr_t address, size_t n_bytes,
                           const void *data) {
  (void)type, (void)transfer;
  mq_hdf5_storage *to = ((device *)file)->storage;
  for (size_t i = 0; i < n_bytes && !to->error;) {
    ssize_t n = pwrite(to->file, (const char *)data + i, n_bytes - i, (off_t)(address + i));
    if (n < 0 && errno != EINTR)
      to->error = errno;
    i += n > 0 ? (size_t)n : 0;
  }
  to->eof = MQ_MAX(to->eof, address + n_bytes);
  return 0;
}

static const H5FD_class_t device_class = {
    .name = "marquee",
    .maxaddr = INT64_MAX,
    .fc_degree = H5F_CLOSE_STRONG,
    .fapl_size = sizeof(mq_hdf5_storage *),
    .open = device_open,
    .close = device_close,
    .query = device_query,
    .get_eoa = device_get_eoa,
    .set_eoa = device_set_eoa,
    .get_eof = device_get_eof,
    .read = device_read,
    .write = device_write,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

void mq_hdf5_lock(void) {
  pthread_mutex_lock(&lock);
  if (driver < 0)
    driver = H5FDregister(&device_class);
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

void mq_hdf5_unlock(void) {
  pthread_mutex_unlock(&lock);
}

hid_t mq_hdf5_access(mq_hdf5_storage *target) {
  hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  /* Bounds fixed: the library's version does not change the bytes. The 1.8 format has checksums on its metadata. */
  if (access < 0 || H5Pset_driver(access, driver, &target) < 0 ||
      H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V110) < 0 || H5Pset_alignment(access, 1, 64) < 0) {
    H5Pclose(access);
    return -1;
  }
  return access;
}

static herr_t keep_first(unsigned n, const H5E_error2_t *error, void *client) {
  (void)client;
  if (n == 0 && error->desc)
    snprintf(last_error, sizeof last_error, "%s", error->desc);
  return 0;
}

const char *mq_hdf5_error(void) {
  last_error[0] = 0;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, NULL);
  return last_error[0] ? last_error : "unknown HDF5 error";
}

hid_t mq_hdf5_type(mq_dtype dtype) {
  hid_t type;
  switch (dtype) {
  case MQ_F32:
    return H5Tcopy(H5T_IEEE_F32LE);
  case MQ_F64:
    return H5Tcopy(H5T_IEEE_F64LE);
  case MQ_F16: /* IEEE half; h5py reads it as float16 */
    type = H5Tcopy(H5T_IEEE_F32LE);
    if (type >= 0 &&
        (H5Tset_fields(type, 15, 10, 5, 0, 10) < 0 || H5Tset_size(type, 2) < 0 || H5Tset_ebias(type, 15) < 0)) {
      H5Tclose(type);
      return -1;
    }
    return type;
  case MQ_BF16:
  case MQ_F8_E4M3: /* no file holds these */
    return -1;
  case MQ_I8:
    return H5Tcopy(H5T_STD_I8LE);
  case MQ_U8:
    return H5Tcopy(H5T_STD_U8LE);
  case MQ_I16:
    return H5Tcopy(H5T_STD_I16LE);
  case MQ_U16:
    return H5Tcopy(H5T_STD_U16LE);
  case MQ_I32:
    return H5Tcopy(H5T_STD_I32LE);
  case MQ_U32:
    return H5Tcopy(H5T_STD_U32LE);
  case MQ_I64:
    return H5Tcopy(H5T_STD_I64LE);
  case MQ_U64:
    return H5Tcopy(H5T_STD_U64LE);
  }
  return -1;
}
