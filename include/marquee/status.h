/* status: what a function that can fail returns, and the message that goes with it.
 *
 * 0 is good. Every other value is the exit code that the program ends with when nobody handles the error
 * (sysexits.h, docs/operating.md): the cause knows best whether running again can help.
 * The message belongs to the calling thread and stands until that thread's next mq_fail. It says what, where, why
 * and what to do: catalog.csv:118: column "year": "19x4" is not a number (row rejected). */
#ifndef MARQUEE_STATUS_H
#define MARQUEE_STATUS_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mq_status {
  MQ_OK = 0,
  MQ_USAGE = 64,       /* wrong flag or argument */
  MQ_DATA = 65,        /* input is there but wrong: over the reject limit, digest mismatch, damaged file */
  MQ_NO_INPUT = 66,    /* input is not there (yet) */
  MQ_UNAVAILABLE = 69, /* a library, device or service is missing */
  MQ_INTERNAL = 70,    /* our bug */
  MQ_NO_MEMORY = 71,   /* memory of the device (or host) does not suffice */
  MQ_CANT_CREATE = 73, /* output cannot be created */
  MQ_IO = 74,          /* reading or writing failed: disk full, EIO */
  MQ_TEMP_FAIL = 75,   /* stopped in good order, progress is saved: run the same command again */
  MQ_PROTOCOL = 76,    /* a ledger, release or artifact of another format version */
  MQ_NO_PERMISSION = 77,
  MQ_CONFIG = 78, /* the job file is wrong */
  MQ_HARDWARE =
      81,         /* a device computed something impossible (NaN from finite inputs), and so did the CPU in its place */
  MQ_SKIPPED = 99 /* already published, nothing done; only with --exit-skipped */
} mq_status;

/* Builds this thread's message (cut at 4,095 bytes) and returns `code`, so that a function can `return mq_fail(...)`.
 */
mq_status mq_fail(mq_status code, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

/* The same with ": strerror(errno)" behind it; the code is derived from errno where `code` is MQ_IO
 * (ENOENT gives MQ_NO_INPUT, EACCES and EPERM MQ_NO_PERMISSION). */
mq_status mq_fail_errno(mq_status code, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

/* Puts text in front of the message that stands ("%s: ") and returns `code` unchanged: context added on the way up. */
mq_status mq_fail_within(mq_status code, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

/* This thread's last message, "" before the first. Valid until the thread's next mq_fail*. */
const char *mq_status_message(void);

/* "input data is invalid" and the like; never NULL. */
const char *mq_status_name(mq_status code);

#ifdef __cplusplus
}
#endif
#endif
