/* plugin: finds libmarquee_cuda.so, checks that it was built for this program, and asks it for devices. Nothing of CUDA
 * is linked: a machine without it runs on the CPU. */
#include "marquee/backend.h"

#include "pipeline/base/base.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct plugin {
  const char *backend, *file;
  mq_plugin_devices_function *devices;
  const mq_ops *ops;     /* NULL: not opened yet */
  struct answer *answer; /* NULL: not asked yet */
} plugin;

static plugin plugins[] = {{.backend = "cuda", .file = "libmarquee_cuda.so"},
                           {.backend = "cuda-emulated", .file = "libmarquee_cuda_emulated.so"}};

static plugin *plugin_find(const char *backend) {
  for (size_t i = 0; i < MQ_COUNT(plugins); i++)
    if (strcmp(plugins[i].backend, backend) == 0)
      return &plugins[i];
  return NULL;
}

/* Caller frees; NULL: nowhere. */
static char *find_file(const char *file) {
  const char *folder = getenv("MARQUEE_PLUGIN_DIR");
  char program[4096];
  if (folder && *folder) {
    char *path = mq_path_join(folder, file);
    if (mq_exists(path))
      return path;
    free(path);
    return NULL;
  }
  const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
  if (n <= 0)
    return NULL;
  program[n] = 0;
  char *beside = mq_path_folder(program);
  char *candidates[] = {mq_path_join(beside, file), mq_format("%s/../lib/marquee/%s", beside, file)}, *found = NULL;
  for (size_t i = 0; i < MQ_COUNT(candidates); i++) {
    if (!found && mq_exists(candidates[i]))
      found = candidates[i];
    else
      free(candidates[i]);
  }
  free(beside);
  return found;
}

/* Stays open to the end of the process: what CUDA starts cannot be unloaded. */
static mq_status plugin_open(plugin *p) {
  mq_status status = MQ_OK;
  char *path = NULL;
  const mq_ops *ops = NULL;
  if (p->ops)
    goto done;
  path = find_file(p->file);
  if (!path) {
    const char *folder = getenv("MARQUEE_PLUGIN_DIR");
    const char *how = strcmp(p->backend, "cuda") == 0 ? "preset cuda; without nvcc, jobs/fetch_cuda.sh first"
                                                      : "target marquee_cuda_emulated";
    if (folder && *folder)
      status = mq_fail(MQ_UNAVAILABLE, "%s is not in %s, where MARQUEE_PLUGIN_DIR says", p->file, folder);
    else
      status = mq_fail(MQ_UNAVAILABLE, "%s is not beside the program: this build has no %s backend (%s)", p->file,
                       p->backend, how);
    goto done;
  }
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    status = mq_fail(MQ_UNAVAILABLE, "%s cannot be opened: %s", path, dlerror());
    goto done;
  }
  mq_plugin_ops_function *get = NULL;
  *(void **)&get = dlsym(library, "mq_plugin_ops");
  *(void **)&p->devices = dlsym(library, "mq_plugin_devices");
  if (!get || !p->devices) {
    status = mq_fail(MQ_PROTOCOL, "%s is no plugin of marquee: it lacks %s", path,
                     get ? "mq_plugin_devices" : "mq_plugin_ops");
    goto done;
  }
  MQ_TRY(get(mq_fail, &ops));
  if (ops->abi != MQ_OPS_ABI) {
    status =
        mq_fail(MQ_PROTOCOL,
                "%s was built for version %d of the operations, this program has %d: build both from the same source",
                path, ops->abi, MQ_OPS_ABI);
    goto done;
  }
  p->ops = ops;
done:
  free(path);
  return status;
}

/* What the child sends: its status and message, or the devices. */
typedef struct answer {
  mq_status status;
  int n;
  char message[1024];
  mq_plugin_device devices[MQ_MAX_DEVICES];
} answer;

static bool read_whole(int file, void *to, size_t n_bytes) {
  for (size_t at = 0; at < n_bytes;) {
    const ssize_t n = read(file, (char *)to + at, n_bytes - at);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return false;
    at += (size_t)n;
  }
  return true;
}

static bool write_whole(int file, const void *from, size_t n_bytes) {
  for (size_t at = 0; at < n_bytes;) {
    const ssize_t n = write(file, (const char *)from + at, n_bytes - at);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return false;
    at += (size_t)n;
  }
  return true;
}

/* A process that has spoken with the driver cannot fork workers that do: a child asks, and only once, since there would
 * be no asking any more when this process has opened a device. */
static mq_status ask_devices(const plugin *p, answer *a) {
  int ends[2], wait_status;
  if (pipe(ends))
    return mq_fail_errno(MQ_UNAVAILABLE, "pipe");
  fflush(NULL);
  const pid_t child = fork();
  if (child == 0) {
    a->status = p->devices(mq_fail, a->devices, &a->n);
    snprintf(a->message, sizeof a->message, "%s", a->status == MQ_OK ? "" : mq_status_message());
    _exit(write_whole(ends[1], a, sizeof *a) ? 0 : 1);
  }
  close(ends[1]);
  if (child < 0) {
    close(ends[0]);
    return mq_fail_errno(MQ_UNAVAILABLE, "fork");
  }
  const bool has_answer = read_whole(ends[0], a, sizeof *a);
  close(ends[0]);
  while (waitpid(child, &wait_status, 0) < 0 && errno == EINTR)
    ;
  if (!has_answer)
    return mq_fail(MQ_UNAVAILABLE, "%s: the driver ended the process that asked it for devices (%s %d)", p->file,
                   WIFSIGNALED(wait_status) ? "signal" : "exit code",
                   WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status));
  return a->status == MQ_OK ? MQ_OK : mq_fail(a->status, "%s", a->message);
}

mq_status mq_backend_devices(const char *name, mq_plugin_device *devices, int *n) {
  mq_status status = MQ_OK;
  plugin *p = plugin_find(name);
  answer *a = NULL;
  *n = 0;
  if (!p) {
    status = mq_fail(MQ_USAGE, "backend \"%s\" has no devices of its own", name);
    goto done;
  }
  MQ_TRY(plugin_open(p));
  if (!p->answer) {
    a = mq_alloc(1, sizeof *a);
    MQ_TRY(ask_devices(p, a));
    p->answer = a;
    a = NULL;
  }
  *n = p->answer->n;
  memcpy(devices, p->answer->devices, (size_t)p->answer->n * sizeof *devices);
done:
  free(a);
  return status;
}

static mq_status choose_cuda(const char *name, const char *backend, int device, mq_backend_choice *choice) {
  mq_status status = MQ_OK;
  mq_plugin_device *devices = mq_alloc(MQ_MAX_DEVICES, sizeof *devices);
  MQ_TRY(mq_backend_devices(backend, devices, &choice->n_devices));
  if (device >= choice->n_devices) {
    status = mq_fail(MQ_USAGE, "backend %s: there %s %d device%s, counted from 0", name,
                     choice->n_devices == 1 ? "is" : "are", choice->n_devices, choice->n_devices == 1 ? "" : "s");
    goto done;
  }
  choice->ops = plugin_find(backend)->ops;
  choice->device = device;
  choice->compute = devices[MQ_MAX(device, 0)].compute;
  snprintf(choice->name, sizeof choice->name, "%s", backend);
  snprintf(choice->reason, sizeof choice->reason, "%s: %s, compute capability %d.%d%s", name,
           devices[MQ_MAX(device, 0)].name, choice->compute / 10, choice->compute % 10,
           choice->n_devices > 1 && device < 0 ? ", and others" : "");
done:
  free(devices);
  return status;
}

/* The N of "cuda:N"; -1 for anything else. */
static int device_of(const char *name) {
  int64_t device;
  if (strncmp(name, "cuda:", 5) || !mq_parse_i64(mq_str_of(name + 5), &device) || device < 0 || device > 9999)
    return -1;
  return (int)device;
}

bool mq_backend_is_name(const char *name) {
  return strcmp(name, "auto") == 0 || strcmp(name, "cpu") == 0 || plugin_find(name) || device_of(name) >= 0;
}

mq_status mq_backend_choose(const char *name, mq_backend_choice *choice) {
  mq_status status = MQ_OK;
  *choice = (mq_backend_choice){.ops = mq_ops_cpu(), .device = -1, .name = "cpu"};
  if (!name || strcmp(name, "auto") == 0) {
    status = choose_cuda("auto", "cuda", -1, choice);
    if (status == MQ_UNAVAILABLE) {
      *choice = (mq_backend_choice){.ops = mq_ops_cpu(), .device = -1, .name = "cpu"};
      snprintf(choice->reason, sizeof choice->reason, "auto: %s", mq_status_message());
      status = MQ_OK;
    }
  } else if (strcmp(name, "cpu") == 0) {
    snprintf(choice->reason, sizeof choice->reason, "cpu: as asked for");
  } else if (plugin_find(name)) {
    status = choose_cuda(name, name, -1, choice);
  } else if (device_of(name) >= 0) {
    status = choose_cuda(name, "cuda", device_of(name), choice);
  } else {
    status = mq_fail(MQ_USAGE, "backend \"%s\" is unknown: expected auto, cpu, cuda or cuda:N", name);
  }
  return status;
}
