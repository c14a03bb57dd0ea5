/* simt_report: findings, statistics, settings: what control.h promises. */
#include "tests/simt/simt_parts.h"

#include <deque>
#include <dlfcn.h>
#include <map>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

namespace simt {

struct kept_finding {
  uint32_t check;
  std::string kernel, text;
};
static std::deque<kept_finding> findings;
static std::map<std::string, simt_statistics> statistics;
static std::string report_path;

static settings read_settings(void) {
  settings s = {SIMT_CHECK_ALL & ~static_cast<uint32_t>(SIMT_CHECK_COST), 0, 0.0, false, false};
  const char *value = getenv("MARQUEE_SIMT_CHECK");
  if (value != nullptr && strcmp(value, "0") == 0)
    s.checks = 0;
  value = getenv("MARQUEE_SIMT_SEED");
  if (value != nullptr)
    s.seed = strtoull(value, nullptr, 10);
  value = getenv("MARQUEE_SIMT_ABORT");
  s.is_aborting = value != nullptr && strcmp(value, "1") == 0;
  value = getenv("MARQUEE_SIMT_REPORT");
  if (value != nullptr) {
    report_path = value;
    atexit([]() { simt_write_report(report_path.c_str()); });
  }
  return s;
}
settings options = read_settings();

/* addr2line knows files and lines where the kernels are compiled with -g; without it there is no place to name. */
std::string where(const void *pc) {
  Dl_info info;
  if (pc == nullptr || options.is_quiet || dladdr(pc, &info) == 0)
    return "";
  char command[4096 + 64];
  const size_t offset = static_cast<size_t>(static_cast<const char *>(pc) - static_cast<const char *>(info.dli_fbase));
  snprintf(command, sizeof command, "addr2line -i -e '%s' %#zx 2>/dev/null", info.dli_fname, offset - 1);
  FILE *pipe = popen(command, "r");
  char line[512] = "";
  if (pipe != nullptr) {
    /* the innermost frame that is not a twin inlined from device.h */
    while (fgets(line, sizeof line, pipe) != nullptr && strstr(line, "/simt/device.h:") != nullptr)
      ;
    pclose(pipe);
  }
  line[strcspn(line, "\n (")] = 0;
  const char *slash = strrchr(line, '/');
  if (line[0] == 0 || line[0] == '?')
    return "";
  return std::string(", ") + (slash != nullptr ? slash + 1 : line);
}

static void keep(uint32_t check, const char *kernel, const std::string &text) {
  if (!options.is_quiet)
    fprintf(stderr, "simt: %s\n", text.c_str());
  findings.push_back({check, kernel, text});
  if (options.is_aborting)
    abort();
}

static void keep(const thread *t, uint32_t check, const char *format, va_list arguments) {
  char text[2048];
  vsnprintf(text, sizeof text, format, arguments);
  char place[256];
  const uint3 b = this_block.index;
  snprintf(place, sizeof place, "%s, block (%u,%u,%u)", this_block.kernel, b.x, b.y, b.z);
  std::string whole = place;
  if (t != nullptr) {
    snprintf(place, sizeof place, ", thread %d (warp %d, lane %d)", t->id, t->warp->id, t->lane);
    whole += place + where(t->pc);
  }
  snprintf(place, sizeof place, " (seed %llu)", static_cast<unsigned long long>(options.seed));
  whole += std::string(": ") + text + place;
  keep(check, this_block.kernel, whole);
}

void add_finding(uint32_t check, const char *place, const char *text) {
  if (options.checks & check)
    keep(check, place, std::string(place) + ": " + text);
}

void report(uint32_t check, const char *format, ...) {
  if (!(options.checks & check))
    return;
  va_list arguments;
  va_start(arguments, format);
  keep(current, check, format, arguments);
  va_end(arguments);
  abandon();
}

void report_for(const thread *t, uint32_t check, const char *format, ...) {
  if (!(options.checks & check) || is_failed)
    return;
  va_list arguments;
  va_start(arguments, format);
  keep(t, check, format, arguments);
  va_end(arguments);
  is_failed = true;
}

void statistics_add(const launch_data &data, int64_t n_blocks) {
  simt_statistics &s = statistics[data.kernel];
  s.n_launches++;
  s.n_blocks += n_blocks;
  s.stated_read += data.stated_read;
  s.stated_written += data.stated_written;
  s.flops += data.stated_flops;
  s.counted_read += counts.unique_read;
  s.counted_written += counts.unique_written;
  s.issued_read += counts.issued_read;
  s.issued_written += counts.issued_written;
  s.shared_wavefronts += counts.wavefronts;
  s.shared_conflicts += counts.conflicts;
  const int64_t pairs[2][2] = {{data.stated_read, counts.unique_read}, {data.stated_written, counts.unique_written}};
  for (int i = 0; i < 2 && is_checking; i++) {
    const double low = static_cast<double>(pairs[i][0] < pairs[i][1] ? pairs[i][0] : pairs[i][1]);
    const double high = static_cast<double>(pairs[i][0] < pairs[i][1] ? pairs[i][1] : pairs[i][0]);
    if (high > low * (1 + options.cost_tolerance))
      report_for(nullptr, SIMT_CHECK_COST, "says that it %s %lld bytes of global memory, but touched %lld",
                 i == 0 ? "reads" : "writes", static_cast<long long>(pairs[i][0]), static_cast<long long>(pairs[i][1]));
  }
}

} /* namespace simt */

using namespace simt;

void simt_set_checks(uint32_t checks) {
  options.checks = checks;
}
uint32_t simt_checks(void) {
  return options.checks;
}
void simt_set_seed(uint64_t seed) {
  options.seed = seed;
}
uint64_t simt_seed(void) {
  return options.seed;
}
uint64_t simt_differing_seed(void (*run)(void *), void *context, const void *result, size_t n_bytes, uint64_t n_seeds) {
  const uint64_t seed_before = options.seed;
  std::string first;
  uint64_t found = 0;
  for (uint64_t seed = 0; seed < n_seeds && found == 0; seed++) {
    options.seed = seed;
    run(context);
    if (seed == 0)
      first.assign(static_cast<const char *>(result), n_bytes);
    else if (memcmp(first.data(), result, n_bytes) != 0)
      found = seed;
  }
  options.seed = seed_before;
  return found;
}
void simt_set_cost_tolerance(double fraction) {
  options.cost_tolerance = fraction;
}
size_t simt_n_findings(void) {
  return findings.size();
}
struct simt_finding simt_finding_at(size_t i) {
  return {findings[i].check, findings[i].kernel.c_str(), findings[i].text.c_str()};
}
void simt_clear_findings(void) {
  findings.clear();
}
void simt_set_quiet(int is_quiet) {
  options.is_quiet = is_quiet != 0;
}
size_t simt_n_statistics(void) {
  return statistics.size();
}
struct simt_statistics simt_statistics_at(size_t i) {
  auto it = statistics.begin();
  std::advance(it, static_cast<ptrdiff_t>(i));
  simt_statistics s = it->second;
  s.kernel = it->first.c_str();
  return s;
}
void simt_clear_statistics(void) {
  statistics.clear();
}

int simt_write_report(const char *path) {
  FILE *file = fopen(path, "a");
  if (file == nullptr)
    return 1;
  for (const auto &[name, s] : statistics)
    fprintf(file,
            "{\"kernel\":\"%s\",\"launches\":%lld,\"blocks\":%lld,\"bytes_read_stated\":%lld,\"bytes_read\":%lld,"
            "\"bytes_written_stated\":%lld,\"bytes_written\":%lld,\"bytes_read_issued\":%lld,"
            "\"bytes_written_issued\":%lld,\"flops_stated\":%lld,\"shared_wavefronts\":%lld,"
            "\"shared_bank_conflicts\":%lld}\n",
            name.c_str(), static_cast<long long>(s.n_launches), static_cast<long long>(s.n_blocks),
            static_cast<long long>(s.stated_read), static_cast<long long>(s.counted_read),
            static_cast<long long>(s.stated_written), static_cast<long long>(s.counted_written),
            static_cast<long long>(s.issued_read), static_cast<long long>(s.issued_written),
            static_cast<long long>(s.flops), static_cast<long long>(s.shared_wavefronts),
            static_cast<long long>(s.shared_conflicts));
  return fclose(file) == 0 ? 0 : 1;
}
