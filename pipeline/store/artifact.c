/* artifact: named columns in one HDF5 file.
 *
 * HDF5 lays the file out and writes its own metadata; the columns' bytes go straight to the file with pwrite at the
 * offsets that it gave (early allocation, no fill), and come back through a memory map. So writing runs at the rate of
 * a plain file, and a look-up costs no library call. */
#include "pipeline/store/artifact.h"
#include "pipeline/store/hdf5.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
  ALIGNMENT = 64,
  MAX_ATTRIBUTE_BYTES = 60000, /* HDF5 keeps an attribute inside the 64 KiB header of its object */
  PIECE_BYTES = 1 << 18,       /* still in the cache when it is hashed after it was written */
  WRITE_BACK_BYTES = 16 << 20  /* the disk starts on what was written while we compute the rest */
};

typedef struct column {
  char *name;
  uint64_t offset, row_bytes;
  int64_t n_rows, n_written;
} column;

struct mq_artifact_writer {
  char *path, *temporary;
  mq_hdf5_storage storage;
  hid_t file;
  int n_columns, capacity;
  column *columns;
  uint64_t n_since_write_back;
  mq_checksum_stream *stream;
  uint64_t n_hashed; /* bytes from the file's beginning that the stream has */
};

/* ---- writing ---- */

/* Groups and datasets without times, links and attributes inside the object's header: fewer blocks, the same bytes. */
static hid_t properties(hid_t class) {
  hid_t list = H5Pcreate(class);
  if (list >= 0 && class != H5P_DATASET_CREATE && H5Pset_link_phase_change(list, 64, 32) < 0)
    goto failed;
  if (list >= 0 && (H5Pset_obj_track_times(list, 0) < 0 || H5Pset_attr_phase_change(list, 64, 32) < 0))
    goto failed;
  return list;
failed:
  H5Pclose(list);
  return -1;
}

mq_status mq_artifact_create(const char *path, mq_artifact_writer **out) {
  mq_status status = MQ_OK;
  hid_t create = -1, access = -1;
  mq_artifact_writer *writer = mq_alloc(1, sizeof *writer);
  *out = NULL;
  writer->path = mq_strdup(path);
  writer->temporary = mq_format("%s.tmp.%d", path, (int)getpid());
  writer->file = -1;
  writer->stream = mq_checksum_begin();
  writer->storage.file = open(writer->temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (writer->storage.file < 0) {
    status = mq_fail_errno(MQ_CANT_CREATE, "%s", writer->temporary);
    goto done;
  }
  mq_hdf5_lock();
  create = properties(H5P_FILE_CREATE);
  access = mq_hdf5_access(&writer->storage);
  writer->file = H5Fcreate(path, H5F_ACC_TRUNC, create, access);
  if (writer->file < 0)
    status = mq_fail(MQ_INTERNAL, "%s: HDF5 cannot create a file: %s", path, mq_hdf5_error());
  H5Pclose(create);
  H5Pclose(access);
  mq_hdf5_unlock();
done:
  if (status == MQ_OK)
    *out = writer;
  else
    mq_artifact_abandon(writer);
  return status;
}

/* Makes the groups above `name`, and `name` itself when is_group. Lock held. */
static mq_status make_groups(mq_artifact_writer *writer, const char *name, bool is_group) {
  mq_status status = MQ_OK;
  char *path = mq_strdup(name);
  for (char *at = path; *at && status == MQ_OK;) {
    char *slash = strchr(at, '/');
    if (!slash && !is_group)
      break;
    if (slash)
      *slash = 0;
    if (slash != path && H5Lexists(writer->file, path, H5P_DEFAULT) <= 0) {
      hid_t create = properties(H5P_GROUP_CREATE);
      hid_t group = H5Gcreate2(writer->file, path, H5P_DEFAULT, create, H5P_DEFAULT);
      if (group < 0)
        status = mq_fail(MQ_INTERNAL, "%s: cannot make group \"%s\": %s", writer->path, path, mq_hdf5_error());
      H5Gclose(group);
      H5Pclose(create);
    }
    if (!slash)
      break;
    *slash = '/';
    at = slash + 1;
  }
  free(path);
  return status;
}

mq_status mq_artifact_begin(mq_artifact_writer *writer, const char *name, mq_dtype dtype, int rank, const int64_t *dims,
                            int *out) {
  mq_status status = MQ_OK;
  hid_t type = -1, space = -1, create = -1, dataset = -1;
  hsize_t extent[MQ_MAX_RANK];
  uint64_t row_bytes = mq_dtype_size(dtype), n_bytes;
  if (rank < 1 || rank > MQ_MAX_RANK)
    return mq_fail(MQ_INTERNAL, "%s: column \"%s\": rank %d is not 1..%d", writer->path, name, rank, MQ_MAX_RANK);
  for (int i = 0; i < rank; i++) {
    if (dims[i] < 0 || (i > 0 && __builtin_mul_overflow(row_bytes, (uint64_t)dims[i], &row_bytes)))
      return mq_fail(MQ_INTERNAL, "%s: column \"%s\": impossible dimensions", writer->path, name);
    extent[i] = (hsize_t)dims[i];
  }
  if (__builtin_mul_overflow(row_bytes, (uint64_t)dims[0], &n_bytes) || n_bytes > INT64_MAX)
    return mq_fail(MQ_INTERNAL, "%s: column \"%s\": impossible dimensions", writer->path, name);

  haddr_t offset = 0;
  mq_hdf5_lock();
  MQ_TRY(make_groups(writer, name, false));
  type = mq_hdf5_type(dtype);
  space = H5Screate_simple(rank, extent, NULL);
  create = properties(H5P_DATASET_CREATE);
  if (type < 0 || space < 0 || create < 0 || H5Pset_layout(create, H5D_CONTIGUOUS) < 0 ||
      H5Pset_alloc_time(create, H5D_ALLOC_TIME_EARLY) < 0 || H5Pset_fill_time(create, H5D_FILL_TIME_NEVER) < 0 ||
      (dataset = H5Dcreate2(writer->file, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT)) < 0) {
    status = mq_fail(MQ_INTERNAL, "%s: cannot make column \"%s\": %s", writer->path, name, mq_hdf5_error());
    goto done;
  }
  if (n_bytes > 0) {
    offset = H5Dget_offset(dataset);
    if (offset == HADDR_UNDEF || offset % ALIGNMENT) {
      status = mq_fail(MQ_INTERNAL, "%s: column \"%s\" has no aligned place in the file", writer->path, name);
      goto done;
    }
  }
  MQ_GROW(writer->columns, writer->n_columns, writer->capacity);
  writer->columns[writer->n_columns] = (column){mq_strdup(name), offset, row_bytes, dims[0], 0};
  *out = writer->n_columns++;
done:
  H5Dclose(dataset);
  H5Pclose(create);
  H5Sclose(space);
  H5Tclose(type);
  mq_hdf5_unlock();
  return status;
}

/* Lets HDF5 write its metadata and go; the file has its final length then. */
static mq_status layout_close(mq_artifact_writer *writer) {
  mq_status status = MQ_OK;
  if (writer->file < 0)
    return MQ_OK;
  mq_hdf5_lock();
  herr_t failed = H5Fclose(writer->file);
  writer->file = -1;
  if (failed < 0)
    status = mq_fail(MQ_INTERNAL, "%s: HDF5 cannot close the file: %s", writer->path, mq_hdf5_error());
  mq_hdf5_unlock();
  if (status == MQ_OK && (writer->storage.error || ftruncate(writer->storage.file, (off_t)writer->storage.eoa))) {
    errno = writer->storage.error ? writer->storage.error : errno;
    status = mq_fail_errno(MQ_IO, "%s", writer->temporary);
  }
  return status;
}

mq_status mq_artifact_seal(mq_artifact_writer *writer) {
  return layout_close(writer);
}

/* Where the first byte lies that an append may still write. */
static uint64_t final_bytes(const mq_artifact_writer *writer) {
  uint64_t n_final = writer->storage.eoa;
  for (int i = 0; i < writer->n_columns; i++) {
    const column *at = &writer->columns[i];
    if (at->n_written < at->n_rows)
      n_final = MQ_MIN(n_final, at->offset + (uint64_t)at->n_written * at->row_bytes);
  }
  return n_final;
}

/* Brings the checksum to byte `end` with what stands in the file: HDF5's own bytes, columns filled in another order. */
static mq_status hash_back(mq_artifact_writer *writer, uint64_t end) {
  mq_status status = MQ_OK;
  char *piece = writer->n_hashed < end ? mq_alloc(PIECE_BYTES, 1) : NULL;
  while (writer->n_hashed < end) {
    ssize_t n =
        pread(writer->storage.file, piece, MQ_MIN(end - writer->n_hashed, PIECE_BYTES), (off_t)writer->n_hashed);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0) {
      errno = n < 0 ? errno : EIO;
      status = mq_fail_errno(MQ_IO, "%s", writer->temporary);
      goto done;
    }
    mq_checksum_add(writer->stream, piece, (size_t)n);
    writer->n_hashed += (uint64_t)n;
  }
done:
  free(piece);
  return status;
}

mq_status mq_artifact_append(mq_artifact_writer *writer, int i_column, int64_t n_rows, const void *data) {
  column *to = &writer->columns[i_column];
  if (n_rows < 0 || n_rows > to->n_rows - to->n_written)
    return mq_fail(MQ_INTERNAL, "%s: column \"%s\": %lld rows more than its %lld", writer->path, to->name,
                   (long long)(to->n_written + n_rows - to->n_rows), (long long)to->n_rows);
  uint64_t n_bytes = (uint64_t)n_rows * to->row_bytes;
  off_t at = (off_t)(to->offset + (uint64_t)to->n_written * to->row_bytes);
  bool is_next = writer->file < 0 && final_bytes(writer) == (uint64_t)at; /* all before it will not change any more */
  if (is_next && hash_back(writer, (uint64_t)at) != MQ_OK)
    return MQ_IO;
  for (uint64_t i = 0; i < n_bytes;) {
    const char *piece = (const char *)data + i;
    ssize_t n = pwrite(writer->storage.file, piece, MQ_MIN(n_bytes - i, PIECE_BYTES), at + (off_t)i);
    if (n < 0) {
      if (errno == EINTR)
        continue;
      return mq_fail_errno(MQ_IO, "%s: column \"%s\"", writer->temporary, to->name);
    }
    i += (uint64_t)n;
    if (is_next) {
      mq_checksum_add(writer->stream, piece, (size_t)n);
      writer->n_hashed += (uint64_t)n;
    }
    writer->n_since_write_back += (uint64_t)n;
    if (writer->n_since_write_back >= WRITE_BACK_BYTES) {
      sync_file_range(writer->storage.file, 0, 0, SYNC_FILE_RANGE_WRITE); /* only starts it; fsync at commit decides */
      writer->n_since_write_back = 0;
    }
  }
  to->n_written += n_rows;
  return MQ_OK;
}

mq_status mq_artifact_write(mq_artifact_writer *writer, const char *name, mq_dtype dtype, int rank, const int64_t *dims,
                            const void *data) {
  int i_column;
  mq_status status = mq_artifact_begin(writer, name, dtype, rank, dims, &i_column);
  return status == MQ_OK ? mq_artifact_append(writer, i_column, dims[0], data) : status;
}

mq_status mq_artifact_write_strings(mq_artifact_writer *writer, const char *name, const mq_strings *strings) {
  mq_status status = MQ_OK;
  static const uint64_t no_offsets[1] = {0};
  const uint64_t *offsets = strings->n ? strings->offsets : no_offsets;
  int64_t n_offsets = strings->n + 1, n_bytes = (int64_t)(offsets[strings->n] - offsets[0]);
  char *offsets_name = mq_format("%s/offsets", name), *bytes_name = mq_format("%s/bytes", name);
  uint64_t *rebased = NULL;
  if (offsets[0] != 0) { /* a slice of another column */
    rebased = mq_alloc((size_t)n_offsets, sizeof *rebased);
    for (int64_t i = 0; i < n_offsets; i++)
      rebased[i] = offsets[i] - offsets[0];
  }
  MQ_TRY(mq_artifact_write(writer, offsets_name, MQ_U64, 1, &n_offsets, rebased ? rebased : offsets));
  MQ_TRY(
      mq_artifact_write(writer, bytes_name, MQ_U8, 1, &n_bytes, strings->bytes ? strings->bytes + offsets[0] : NULL));
done:
  free(rebased);
  free(offsets_name);
  free(bytes_name);
  return status;
}

/* Writes `value` (of the given memory and file type) as an attribute; takes the type. */
static mq_status write_attribute(mq_artifact_writer *writer, const char *object, const char *name, hid_t type,
                                 const void *value) {
  mq_status status = MQ_OK;
  hid_t at = -1, space = -1, attribute = -1;
  const char *path = object[0] ? object : "/";
  MQ_TRY(make_groups(writer, path, true));
  at = H5Oopen(writer->file, path, H5P_DEFAULT);
  space = H5Screate(H5S_SCALAR);
  attribute = H5Acreate2(at, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
  if (attribute < 0 || H5Awrite(attribute, type, value) < 0)
    status = mq_fail(MQ_INTERNAL, "%s: cannot write attribute \"%s\" of \"%s\": %s", writer->path, name, path,
                     mq_hdf5_error());
done:
  H5Aclose(attribute);
  H5Sclose(space);
  H5Oclose(at);
  H5Tclose(type);
  return status;
}

mq_status mq_artifact_attribute_text(mq_artifact_writer *writer, const char *object, const char *name,
                                     const char *value) {
  size_t n = strlen(value);
  if (n > MAX_ATTRIBUTE_BYTES)
    return mq_fail(MQ_INTERNAL, "%s: attribute \"%s\" has %zu bytes, over %d: make it a column", writer->path, name, n,
                   MAX_ATTRIBUTE_BYTES);
  mq_hdf5_lock();
  hid_t type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, n + 1);
  H5Tset_cset(type, H5T_CSET_UTF8);
  H5Tset_strpad(type, H5T_STR_NULLTERM);
  mq_status status = write_attribute(writer, object, name, type, value);
  mq_hdf5_unlock();
  return status;
}

mq_status mq_artifact_attribute_i64(mq_artifact_writer *writer, const char *object, const char *name, int64_t value) {
  mq_hdf5_lock();
  mq_status status = write_attribute(writer, object, name, H5Tcopy(H5T_STD_I64LE), &value);
  mq_hdf5_unlock();
  return status;
}

mq_status mq_artifact_attribute_f64(mq_artifact_writer *writer, const char *object, const char *name, double value) {
  mq_hdf5_lock();
  mq_status status = write_attribute(writer, object, name, H5Tcopy(H5T_IEEE_F64LE), &value);
  mq_hdf5_unlock();
  return status;
}

/* Frees the writer; its temporary file goes with it unless it was renamed. */
static void writer_end(mq_artifact_writer *writer, bool is_renamed) {
  if (writer->file >= 0) {
    mq_hdf5_lock();
    H5Fclose(writer->file);
    mq_hdf5_unlock();
  }
  if (writer->storage.file >= 0) {
    close(writer->storage.file);
    if (!is_renamed)
      unlink(writer->temporary);
  }
  for (int i = 0; i < writer->n_columns; i++)
    free(writer->columns[i].name);
  mq_checksum_end(writer->stream);
  free(writer->columns);
  free(writer->temporary);
  free(writer->path);
  free(writer);
}

mq_status mq_artifact_commit(mq_artifact_writer *writer, mq_checksum *checksum, uint64_t *n_bytes) {
  mq_status status = MQ_OK;
  bool is_renamed = false;
  char *folder = mq_path_folder(writer->path);
  for (int i = 0; i < writer->n_columns; i++)
    if (writer->columns[i].n_written != writer->columns[i].n_rows) {
      status = mq_fail(MQ_INTERNAL, "%s: column \"%s\" has %lld of %lld rows", writer->path, writer->columns[i].name,
                       (long long)writer->columns[i].n_written, (long long)writer->columns[i].n_rows);
      goto done;
    }
  MQ_TRY(layout_close(writer));
  if (checksum) { /* what was not hashed yet, while the disk is busy with the same pages */
    sync_file_range(writer->storage.file, 0, 0, SYNC_FILE_RANGE_WRITE);
    MQ_TRY(hash_back(writer, writer->storage.eoa));
    *checksum = mq_checksum_end(writer->stream);
    writer->stream = NULL;
  }
  if (fsync(writer->storage.file)) {
    status = mq_fail_errno(MQ_IO, "%s: fsync", writer->temporary);
    goto done;
  }
  if (rename(writer->temporary, writer->path)) {
    status = mq_fail_errno(MQ_IO, "%s: rename", writer->path);
    goto done;
  }
  is_renamed = true;
  MQ_TRY(mq_sync_folder(folder));
  if (n_bytes)
    *n_bytes = writer->storage.eoa;
done:
  free(folder);
  writer_end(writer, is_renamed);
  return status;
}

void mq_artifact_abandon(mq_artifact_writer *writer) {
  if (writer)
    writer_end(writer, false);
}

/* ---- reading ---- */

struct mq_artifact {
  char *path;
  mq_hdf5_storage storage;
  hid_t file;
};

mq_status mq_artifact_open(const char *path, mq_artifact **out) {
  mq_status status = MQ_OK;
  mq_artifact *artifact = mq_alloc(1, sizeof *artifact);
  *out = NULL;
  artifact->path = mq_strdup(path);
  artifact->file = -1;
  artifact->storage.file = -1;
  MQ_TRY(mq_map_open(path, &artifact->storage.map));
  artifact->storage.eof = artifact->storage.map.n;
  mq_hdf5_lock();
  hid_t access = mq_hdf5_access(&artifact->storage);
  artifact->file = H5Fopen(path, H5F_ACC_RDONLY, access);
  if (artifact->file < 0)
    status = mq_fail(MQ_DATA, "%s: damaged, truncated or no HDF5 file: %s", path, mq_hdf5_error());
  H5Pclose(access);
  mq_hdf5_unlock();
done:
  if (status == MQ_OK)
    *out = artifact;
  else
    mq_artifact_close(artifact);
  return status;
}

void mq_artifact_close(mq_artifact *artifact) {
  if (!artifact)
    return;
  if (artifact->file >= 0) {
    mq_hdf5_lock();
    H5Fclose(artifact->file);
    mq_hdf5_unlock();
  }
  mq_map_close(&artifact->storage.map);
  free(artifact->path);
  free(artifact);
}

const char *mq_artifact_path(const mq_artifact *artifact) {
  return artifact->path;
}

/* Whether every step of the path is a hard link: others could lead out of the file. Lock held. */
static bool has_object(const mq_artifact *artifact, const char *name) {
  bool is_there = true;
  char *path = mq_strdup(name);
  for (char *at = path; is_there && *at;) {
    char *slash = strchr(at, '/');
    if (slash)
      *slash = 0;
    H5L_info_t info;
    if (slash != path)
      is_there = H5Lget_info(artifact->file, path, &info, H5P_DEFAULT) >= 0 && info.type == H5L_TYPE_HARD;
    if (!slash)
      break;
    *slash = '/';
    at = slash + 1;
  }
  free(path);
  return is_there;
}

bool mq_artifact_has(const mq_artifact *artifact, const char *name) {
  mq_hdf5_lock();
  bool is_there = has_object(artifact, name);
  mq_hdf5_unlock();
  return is_there;
}

/* Dimensions and place of a dataset as the file claims them. Lock held. */
static mq_status column_find(const mq_artifact *artifact, const char *name, mq_dtype dtype, int rank, hsize_t *extent,
                             haddr_t *offset) {
  mq_status status = MQ_OK;
  hid_t dataset = -1, type = -1, wanted = -1, space = -1, create = -1;
  if (!has_object(artifact, name) || (dataset = H5Dopen2(artifact->file, name, H5P_DEFAULT)) < 0) {
    status = mq_fail(MQ_DATA, "%s: no column \"%s\": the file is damaged or of another version", artifact->path, name);
    goto done;
  }
  type = H5Dget_type(dataset);
  wanted = mq_hdf5_type(dtype);
  space = H5Dget_space(dataset);
  create = H5Dget_create_plist(dataset);
  if (type < 0 || wanted < 0 || H5Tequal(type, wanted) <= 0) {
    status = mq_fail(MQ_DATA, "%s: column \"%s\" is not %s", artifact->path, name, mq_dtype_name(dtype));
    goto done;
  }
  if (space < 0 || H5Sget_simple_extent_ndims(space) != rank ||
      H5Sget_simple_extent_dims(space, extent, NULL) != rank) {
    status = mq_fail(MQ_DATA, "%s: column \"%s\" has not %d dimensions", artifact->path, name, rank);
    goto done;
  }
  if (create < 0 || H5Pget_layout(create) != H5D_CONTIGUOUS || H5Pget_external_count(create) != 0) {
    status = mq_fail(MQ_DATA, "%s: column \"%s\" is not contiguous in this file", artifact->path, name);
    goto done;
  }
  *offset = H5Dget_offset(dataset);
done:
  H5Pclose(create);
  H5Sclose(space);
  H5Tclose(wanted);
  H5Tclose(type);
  H5Dclose(dataset);
  return status;
}

mq_status mq_artifact_column(const mq_artifact *artifact, const char *name, mq_dtype dtype, int rank, int64_t *dims,
                             const void **data) {
  hsize_t extent[MQ_MAX_RANK];
  haddr_t offset = HADDR_UNDEF;
  uint64_t n_bytes = mq_dtype_size(dtype);
  if (rank < 1 || rank > MQ_MAX_RANK)
    return mq_fail(MQ_INTERNAL, "%s: column \"%s\": rank %d is not 1..%d", artifact->path, name, rank, MQ_MAX_RANK);
  mq_hdf5_lock();
  mq_status status = column_find(artifact, name, dtype, rank, extent, &offset);
  mq_hdf5_unlock();
  if (status != MQ_OK)
    return status;
  for (int i = 0; i < rank; i++) {
    if (extent[i] > INT64_MAX || __builtin_mul_overflow(n_bytes, (uint64_t)extent[i], &n_bytes))
      return mq_fail(MQ_DATA, "%s: column \"%s\" claims impossible dimensions", artifact->path, name);
    dims[i] = (int64_t)extent[i];
  }
  if (n_bytes == 0) {
    *data = artifact->storage.map.at;
    return MQ_OK;
  }
  if (offset == HADDR_UNDEF || offset > artifact->storage.map.n || n_bytes > artifact->storage.map.n - offset ||
      offset % mq_dtype_size(dtype))
    return mq_fail(MQ_DATA, "%s: column \"%s\" lies outside the file: it is truncated or damaged", artifact->path,
                   name);
  *data = artifact->storage.map.at + offset;
  return MQ_OK;
}

mq_status mq_artifact_strings(const mq_artifact *artifact, const char *name, mq_strings *strings) {
  mq_status status = MQ_OK;
  int64_t n_offsets, n_bytes;
  const void *offsets, *bytes;
  char *offsets_name = mq_format("%s/offsets", name), *bytes_name = mq_format("%s/bytes", name);
  MQ_TRY(mq_artifact_column(artifact, offsets_name, MQ_U64, 1, &n_offsets, &offsets));
  MQ_TRY(mq_artifact_column(artifact, bytes_name, MQ_U8, 1, &n_bytes, &bytes));
  const uint64_t *at = offsets;
  bool is_good = n_offsets > 0 && at[0] == 0 && at[n_offsets - 1] == (uint64_t)n_bytes;
  for (int64_t i = 1; is_good && i < n_offsets; i++)
    is_good = at[i - 1] <= at[i];
  if (!is_good)
    status =
        mq_fail(MQ_DATA, "%s: column \"%s\": offsets do not fit the bytes: the file is damaged", artifact->path, name);
  else
    *strings = (mq_strings){n_offsets - 1, offsets, bytes};
done:
  free(offsets_name);
  free(bytes_name);
  return status;
}

/* Opens an attribute that is one value of the class and size wanted (0: any size); -1 with a message. Lock held. */
static hid_t attribute_open(const mq_artifact *artifact, const char *object, const char *name, H5T_class_t class,
                            size_t size, hid_t *type) {
  const char *path = object[0] ? object : "/";
  hid_t attribute = -1, space = -1;
  *type = -1;
  if (has_object(artifact, path))
    attribute = H5Aopen_by_name(artifact->file, path, name, H5P_DEFAULT, H5P_DEFAULT);
  if (attribute < 0) {
    mq_fail(MQ_DATA, "%s: no attribute \"%s\" of \"%s\"", artifact->path, name, path);
    return -1;
  }
  space = H5Aget_space(attribute);
  *type = H5Aget_type(attribute);
  bool is_good =
      space >= 0 && *type >= 0 && H5Sget_simple_extent_npoints(space) == 1 && H5Tget_class(*type) == class &&
      (!size || H5Tget_size(*type) == size) &&
      (class != H5T_STRING || (H5Tis_variable_str(*type) <= 0 && H5Tget_size(*type) <= MAX_ATTRIBUTE_BYTES + 1));
  H5Sclose(space);
  if (!is_good) {
    mq_fail(MQ_DATA, "%s: attribute \"%s\" of \"%s\" has another type", artifact->path, name, path);
    H5Tclose(*type);
    H5Aclose(attribute);
    return -1;
  }
  return attribute;
}

static mq_status attribute_read(const mq_artifact *artifact, const char *name, hid_t attribute, hid_t type,
                                void *value) {
  mq_status status = MQ_OK;
  if (H5Aread(attribute, type, value) < 0)
    status = mq_fail(MQ_DATA, "%s: attribute \"%s\": %s", artifact->path, name, mq_hdf5_error());
  H5Aclose(attribute);
  return status;
}

mq_status mq_artifact_get_text(const mq_artifact *artifact, const char *object, const char *name, char **value) {
  mq_status status = MQ_DATA;
  hid_t type;
  *value = NULL;
  mq_hdf5_lock();
  hid_t attribute = attribute_open(artifact, object, name, H5T_STRING, 0, &type);
  if (attribute >= 0) {
    *value = mq_alloc(H5Tget_size(type) + 1, 1);
    status = attribute_read(artifact, name, attribute, type, *value);
    H5Tclose(type);
  }
  mq_hdf5_unlock();
  if (status != MQ_OK) {
    free(*value);
    *value = NULL;
  }
  return status;
}

static mq_status get_number(const mq_artifact *artifact, const char *object, const char *name, H5T_class_t class,
                            hid_t memory_type, void *value) {
  mq_status status = MQ_DATA;
  hid_t type;
  hid_t attribute = attribute_open(artifact, object, name, class, 8, &type);
  if (attribute >= 0) {
    H5Tclose(type);
    status = attribute_read(artifact, name, attribute, memory_type, value);
  }
  return status;
}

mq_status mq_artifact_get_i64(const mq_artifact *artifact, const char *object, const char *name, int64_t *value) {
  mq_hdf5_lock();
  mq_status status = get_number(artifact, object, name, H5T_INTEGER, H5T_NATIVE_INT64, value);
  mq_hdf5_unlock();
  return status;
}

mq_status mq_artifact_get_f64(const mq_artifact *artifact, const char *object, const char *name, double *value) {
  mq_hdf5_lock();
  mq_status status = get_number(artifact, object, name, H5T_FLOAT, H5T_NATIVE_DOUBLE, value);
  mq_hdf5_unlock();
  return status;
}
