/* runtime_faults: misfortune on demand. MARQUEE_SIMT_FAIL lists calls that fail, MARQUEE_SIMT_POISON launches whose
 * result gets a NaN, MARQUEE_SIMT_CALLS a file that receives how many calls there were of each kind. README.md
 * describes the three. */
#include "tests/simt/runtime_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <vector>

namespace simt {

cudaError_t sticky_error = cudaSuccess;

namespace {

const char *const kind_names[N_CALL_KINDS] = {"malloc", "host",  "launch", "memcpy", "memset",
                                              "sync",   "event", "stream", "graph",  "other"};

struct error_name {
  const char *name;
  cudaError_t error;
  bool is_sticky;
};

const error_name error_names[] = {
    {"oom", cudaErrorMemoryAllocation, false},   {"invalid", cudaErrorInvalidValue, false},
    {"launch", cudaErrorLaunchFailure, true},    {"illegal", cudaErrorIllegalAddress, true},
    {"lost", cudaErrorDevicesUnavailable, true}, {"unknown", cudaErrorUnknown, true},
    {"ecc", cudaErrorECCUncorrectable, true},
};

/* CUDA says "insufficient" of a driver that is not there at all, too: its version is 0 then. */
struct absent_device {
  const char *name;
  cudaError_t error;
  int driver;
};

const absent_device absent_devices[] = {{"no-device", cudaErrorNoDevice, CUDART_VERSION},
                                        {"no-driver", cudaErrorInsufficientDriver, 0},
                                        {"old-driver", cudaErrorInsufficientDriver, 11040}};

struct fault {
  int kind; /* a call_kind, or N_CALL_KINDS for any */
  int64_t n;
  bool and_after;
  const error_name *error;
};

struct poison {
  std::string kernel;
  int64_t n;
  bool and_after;
  int64_t n_launches;
};

[[noreturn]] void bad_setting(const char *variable, const std::string &text) {
  fprintf(stderr, "%s: cannot read \"%s\" (tests/simt/README.md describes it)\n", variable, text.c_str());
  exit(70);
}

std::vector<std::string> list_of(const char *variable) {
  std::vector<std::string> items;
  const char *text = getenv(variable);
  while (text && *text) {
    const size_t length = strcspn(text, ",");
    if (length)
      items.emplace_back(text, length);
    text += length + (text[length] == ',');
  }
  return items;
}

/* "7" or "7+" behind a colon. */
bool read_position(const std::string &text, int64_t *n, bool *and_after) {
  char *end;
  *n = strtoll(text.c_str(), &end, 10);
  *and_after = *end == '+';
  return *n > 0 && end[*and_after] == 0;
}

struct fault_plan {
  std::vector<fault> faults;
  std::vector<poison> poisons;
  cudaError_t absence = cudaSuccess; /* why there is no device at all */
  int driver = CUDART_VERSION;
  int64_t n_calls[N_CALL_KINDS] = {};
  int64_t n_any = 0;

  fault_plan() {
    for (const std::string &item : list_of("MARQUEE_SIMT_FAIL"))
      read_fault(item);
    for (const std::string &item : list_of("MARQUEE_SIMT_POISON")) {
      const size_t colon = item.rfind(':');
      poison wanted = {item.substr(0, colon), 0, false, 0};
      if (colon == std::string::npos || !read_position(item.substr(colon + 1), &wanted.n, &wanted.and_after))
        bad_setting("MARQUEE_SIMT_POISON", item);
      poisons.push_back(wanted);
    }
  }

  ~fault_plan() {
    const char *path = getenv("MARQUEE_SIMT_CALLS");
    FILE *file = path && *path ? fopen(path, "w") : nullptr;
    if (!file)
      return;
    for (int kind = 0; kind < N_CALL_KINDS; kind++)
      fprintf(file, "%s %lld\n", kind_names[kind], static_cast<long long>(n_calls[kind]));
    fprintf(file, "any %lld\n", static_cast<long long>(n_any));
    fclose(file);
  }

  void read_fault(const std::string &item) {
    for (const absent_device &known : absent_devices)
      if (item == known.name) {
        absence = known.error;
        driver = known.driver;
        return;
      }
    const size_t colon = item.find(':'), equals = item.find('=');
    const std::string kind = item.substr(0, colon);
    fault wanted = {-1, 0, false, nullptr};
    for (int i = 0; i < N_CALL_KINDS; i++)
      if (kind == kind_names[i])
        wanted.kind = i;
    if (kind == "any")
      wanted.kind = N_CALL_KINDS;
    const std::string error = equals != std::string::npos                              ? item.substr(equals + 1)
                              : wanted.kind == CALL_MALLOC || wanted.kind == CALL_HOST ? "oom"
                              : wanted.kind == CALL_LAUNCH                             ? "launch"
                                                                                       : "lost";
    for (const error_name &known : error_names)
      if (error == known.name)
        wanted.error = &known;
    if (wanted.kind < 0 || !wanted.error || colon == std::string::npos ||
        !read_position(item.substr(colon + 1, equals == std::string::npos ? equals : equals - colon - 1), &wanted.n,
                       &wanted.and_after))
      bad_setting("MARQUEE_SIMT_FAIL", item);
    faults.push_back(wanted);
  }

  const error_name *next_call(call_kind kind) {
    const int64_t n_of_kind = ++n_calls[kind];
    n_any++;
    for (const fault &wanted : faults) {
      const int64_t n = wanted.kind == N_CALL_KINDS ? n_any : n_of_kind;
      if ((wanted.kind == N_CALL_KINDS || wanted.kind == kind) && (n == wanted.n || (wanted.and_after && n > wanted.n)))
        return wanted.error;
    }
    return nullptr;
  }
};

fault_plan &plan() {
  static fault_plan the_plan;
  return the_plan;
}

std::recursive_mutex runtime_lock;
thread_local cudaError_t last_error = cudaSuccess;

} /* namespace */

api_call::api_call(call_kind kind) : lock(runtime_lock) {
  error = plan().absence != cudaSuccess ? plan().absence : sticky_error;
  if (kind == CALL_FREE_OF_FAULTS || error != cudaSuccess)
    return;
  const error_name *injected = plan().next_call(kind);
  if (!injected)
    return;
  if (kind == CALL_LAUNCH && injected->is_sticky) {
    late_error = injected->error;
    return;
  }
  error = injected->error;
  if (injected->is_sticky)
    sticky_error = error;
}

cudaError_t api_call::done(cudaError_t result) {
  if (result != cudaSuccess && result != cudaErrorNotReady)
    last_error = result;
  return result;
}

bool is_poisoned_launch(const std::string &kernel_name) {
  bool is_poisoned = false;
  for (poison &wanted : plan().poisons) {
    if (wanted.kernel != kernel_name)
      continue;
    wanted.n_launches++;
    is_poisoned |= wanted.n_launches == wanted.n || (wanted.and_after && wanted.n_launches > wanted.n);
  }
  return is_poisoned;
}

int64_t environment_number(const char *name, int64_t otherwise) {
  const char *text = getenv(name);
  if (!text || !*text)
    return otherwise;
  char *end;
  const int64_t value = strtoll(text, &end, 10);
  if (*end || value < 0)
    bad_setting(name, text);
  return value;
}

} /* namespace simt */

cudaError_t cudaGetLastError(void) {
  simt::api_call call(simt::CALL_FREE_OF_FAULTS);
  const cudaError_t error = simt::sticky_error != cudaSuccess ? simt::sticky_error : simt::last_error;
  simt::last_error = cudaSuccess;
  return error;
}

cudaError_t cudaDriverGetVersion(int *version) {
  *version = simt::plan().driver;
  return cudaSuccess;
}

cudaError_t cudaPeekAtLastError(void) {
  simt::api_call call(simt::CALL_FREE_OF_FAULTS);
  return simt::sticky_error != cudaSuccess ? simt::sticky_error : simt::last_error;
}
