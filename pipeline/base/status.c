/* status: one message buffer per thread; see include/marquee/status.h. */
#include "pipeline/base/base.h"

#include <errno.h>
#include <string.h>

enum { MESSAGE_BYTES = 4096 };
static _Thread_local char message[MESSAGE_BYTES];

mq_status mq_fail(mq_status code, const char *format, ...) {
  /* Built beside the old one first: arguments may point into it. */
  char text[MESSAGE_BYTES];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  for (unsigned char *at = (unsigned char *)text; *at; at++) /* cells of damaged files reach a terminal by messages */
    if ((*at < 0x20 && *at != '\n' && *at != '\t') || *at == 0x7F)
      *at = '?';
  memcpy(message, text, sizeof message);
  return code;
}

mq_status mq_fail_errno(mq_status code, const char *format, ...) {
  int error = errno;
  char text[MESSAGE_BYTES];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  if (code == MQ_IO && (error == ENOENT || error == ENOTDIR))
    code = MQ_NO_INPUT;
  if (code == MQ_IO && (error == EACCES || error == EPERM || error == EROFS))
    code = MQ_NO_PERMISSION;
  return mq_fail(code, "%s: %s", text, strerror(error));
}

mq_status mq_fail_within(mq_status code, const char *format, ...) {
  char text[MESSAGE_BYTES];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  return mq_fail(code, "%s: %s", text, message);
}

const char *mq_status_message(void) {
  return message;
}

const char *mq_status_name(mq_status code) {
  switch (code) {
  case MQ_OK:
    return "ok";
  case MQ_USAGE:
    return "usage";
  case MQ_DATA:
    return "invalid input data";
  case MQ_NO_INPUT:
    return "input is missing";
  case MQ_UNAVAILABLE:
    return "a resource is missing";
  case MQ_NO_MEMORY:
    return "memory does not suffice";
  case MQ_INTERNAL:
    return "internal error";
  case MQ_CANT_CREATE:
    return "cannot create output";
  case MQ_IO:
    return "input/output error";
  case MQ_TEMP_FAIL:
    return "stopped, run again";
  case MQ_PROTOCOL:
    return "format version mismatch";
  case MQ_NO_PERMISSION:
    return "permission denied";
  case MQ_CONFIG:
    return "invalid job file";
  case MQ_HARDWARE:
    return "wrong result of a device";
  case MQ_SKIPPED:
    return "already published";
  }
  return "unknown";
}

size_t mq_dtype_size(mq_dtype dtype) {
  static const uint8_t sizes[] = {
      [MQ_F32] = 4, [MQ_F64] = 8, [MQ_F16] = 2, [MQ_BF16] = 2, [MQ_I8] = 1,  [MQ_U8] = 1,     [MQ_I16] = 2,
      [MQ_U16] = 2, [MQ_I32] = 4, [MQ_U32] = 4, [MQ_I64] = 8,  [MQ_U64] = 8, [MQ_F8_E4M3] = 1};
  return sizes[dtype];
}

const char *mq_dtype_name(mq_dtype dtype) {
  static const char *const names[] = {[MQ_F32] = "float32",        [MQ_F64] = "float64", [MQ_F16] = "float16",
                                      [MQ_BF16] = "bfloat16",      [MQ_I8] = "int8",     [MQ_U8] = "uint8",
                                      [MQ_I16] = "int16",          [MQ_U16] = "uint16",  [MQ_I32] = "int32",
                                      [MQ_U32] = "uint32",         [MQ_I64] = "int64",   [MQ_U64] = "uint64",
                                      [MQ_F8_E4M3] = "float8_e4m3"};
  return names[dtype];
}
