// What a million images cost the image cache beside a thousand: in memory, call by call, and at a start.
//
//   index_bench                 the entries in memory: nanoseconds a call, bytes an entry
//   index_bench make DIR [N]    only the directory of the next
//   index_bench start DIR [N]   a start on N files (default 1,000,000) with their rows and ledger, by both index
//                               drivers; DIR is made, on the file system to be measured, and kept for a next run
//
// A thousand entries lie in the processor's cache and a million do not, so that a ratio above 1 is memory, not search.
#include <fcntl.h>
#include <malloc.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "base/blocking_pool.hpp"
#include "base/clock.hpp"
#include "base/fd.hpp"
#include "events/counters.hpp"
#include "image_cache/entries.hpp"
#include "image_cache/image_cache.hpp"
#include "image_cache/index.hpp"
#include "origin/origin.hpp"

namespace {

using namespace imagecache;
using namespace imagecache::image_cache;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

template <class T>
T value_of(Result<T> result) {
  if (!result) {
    std::fprintf(stderr, "%s\n", result.error().message.c_str());
    std::exit(1);
  }
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::uint64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t pages = 0;
  statm >> pages >> pages;
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

double cpu_seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;  // of all threads
}

/// As random as a UUID, and the same each time; `i` is what it is the i-th of.
std::string id_of(std::uint64_t i) {
  const auto mixed = [](std::uint64_t x) {  // splitmix64
    x += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
  };
  const auto a = mixed(2 * i);
  const auto b = mixed(2 * i + 1);
  std::array<char, 37> text{};
  std::snprintf(text.data(), text.size(), "%08x-%04x-4%03x-8%03x-%012llx", static_cast<unsigned>(a >> 32),
                static_cast<unsigned>(a >> 16 & 0xffff), static_cast<unsigned>(a & 0xfff),
                static_cast<unsigned>(b >> 52), static_cast<unsigned long long>(b & 0xffffffffffff));
  return {text.data(), 36};
}

std::vector<IndexRow> rows(std::uint64_t count) {
  std::vector<IndexRow> all;
  for (std::uint64_t i = 0; i < count; ++i) {
    all.push_back({.image_id = id_of(i),
                   .last_accessed = 1.7e9 + static_cast<double>(i * 7919 % count),
                   .last_modified = 1.7e9,
                   .size_bytes = 1,
                   .hits = i % 5});
  }
  return all;
}

template <class Call>
double nanoseconds(Call call) {
  constexpr int calls = 50'000;
  double best = 1e9;
  for (int round = 0; round < 3; ++round) {
    const auto start = Clock::now();
    for (int i = 0; i < calls; ++i) call(i);
    best = std::min(best, seconds_since(start) * 1e9 / calls);
  }
  return best;
}

struct Costs {
  double lookup, touch, victim, exchange, page;
};

Costs measure(const char* policy, std::uint64_t count) {
  auto all = rows(count);
  std::ranges::sort(all, {}, &IndexRow::image_id);
  std::vector<std::string> ids;
  for (int i = 0; i < 4096; ++i) ids.push_back(id_of(static_cast<std::uint64_t>(i) * 7919 % count));
  Entries entries;
  entries.use(value_of(make_eviction_policy(policy, count)));
  entries.load(std::move(all));
  const auto id = [&](int i) -> const std::string& { return ids[static_cast<std::size_t>(i) % ids.size()]; };
  std::uint64_t sum = 0;
  Costs costs{};
  costs.lookup = nanoseconds([&](int i) { sum += entries.find(id(i))->hits; });
  costs.touch = nanoseconds([&](int i) { entries.touch(id(i), 1.8e9 + i); });
  static_cast<void>(entries.take_changes());
  costs.victim = nanoseconds([&](int) { sum += entries.victim()->size(); });
  costs.exchange = nanoseconds([&](int) {
    // Evicted and fetched again, so that the count stays.
    const std::string victim = *entries.victim();
    entries.evict(victim, EvictionReason::size);
    entries.put(victim, {.size_bytes = 1}, true);
  });
  static_cast<void>(entries.take_changes());
  costs.page = nanoseconds(
      [&](int) { entries.for_each_after("", 25, [&](const std::string&, const Entry& entry) { sum += entry.hits; }); });
  if (sum == 0) std::puts("");  // so that nothing is optimised away
  return costs;
}

/// In a process of its own, so that each begins with nothing.
template <class Work>
void apart(Work work) {
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child == 0) {
    work();
    std::fflush(stdout);
    ::_exit(0);
  }
  int status = 0;
  if (::waitpid(child, &status, 0) != child || status != 0) std::exit(1);
}

void measure_memory(const char* policy) {
  constexpr std::uint64_t count = 1'000'000;
  const auto before = resident_bytes();
  auto all = rows(count);
  std::ranges::sort(all, {}, &IndexRow::image_id);
  Entries entries;
  entries.use(value_of(make_eviction_policy(policy, count)));
  entries.load(std::move(all));
  ::malloc_trim(0);
  std::printf("%-7s %llu bytes an entry\n", policy,
              static_cast<unsigned long long>((resident_bytes() - before) / count));
}

void make_directory(const fs::path& directory, std::uint64_t count) {
  const fs::path done = directory / ".cinder-image-cache" / "made";
  if (fs::exists(done)) return;
  std::printf("making %llu files in %s\n", static_cast<unsigned long long>(count), directory.c_str());
  value_of(base::make_directories(directory / ".cinder-image-cache"));
  const auto all = rows(count);
  for (const auto& row : all) {
    const auto file = value_of(base::open_file(directory / row.image_id, O_WRONLY | O_CREAT));
    if (::pwrite(file.get(), "x", 1, 0) != 1) std::abort();
    static_cast<void>(::fsetxattr(file.get(), "user.hits", "3", 1, 0));
  }
  value_of(value_of(open_sqlite_index(directory / "cache.db", {}))->apply(all, {}, {}));
  value_of(base::write_file_atomically(done, ""));
}

void start(const fs::path& directory, const char* driver) {
  const std::string nothing = directory / ".cinder-image-cache" / "no-images";
  value_of(base::make_directories(nothing));
  const auto origin = value_of(origin::make_directory_origin({.directory = nothing, .state_path = nothing}));
  base::BlockingPool pool({.name = "work", .threads = 2});
  base::BlockingPool load({.name = "load"});
  base::SystemClock clock;
  events::Counters counters{};
  const auto before = resident_bytes();
  auto cache = std::make_unique<ImageCache>(
      Options{
          .directory = directory, .max_size_bytes = 1ULL << 40, .index_driver = driver, .eviction_policy = "s3fifo"},
      *origin, pool, pool, pool, clock, counters);
  const auto begin = Clock::now();
  const double cpu_before = cpu_seconds();
  value_of(cache->recover_in_background(load));
  const double ready = seconds_since(begin);
  while (cache->load_progress()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  const double took = seconds_since(begin);
  std::printf(
      "%-7s %.3f s until requests may come, %.2f s (%.2f s of CPU) to know %llu images, %llu MiB resident more\n",
      driver, ready, took, cpu_seconds() - cpu_before,
      static_cast<unsigned long long>(counters.image_cache_files.load()),
      static_cast<unsigned long long>((resident_bytes() - before) >> 20));
  std::fflush(stdout);
  ::_exit(0);  // what goes on in the background is not measured
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 2 && std::string_view(argv[1]) == "start") {
    const fs::path directory = argv[2];
    make_directory(directory, argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 1'000'000);
    for (int round = 0; round < 3; ++round) {
      for (const char* driver : {"sqlite", "xattr"}) apart([&] { start(directory, driver); });
    }
    return 0;
  }
  if (argc > 2 && std::string_view(argv[1]) == "make") {
    make_directory(argv[2], argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 1'000'000);
    return 0;
  }
  if (argc > 1) {
    std::fprintf(stderr, "usage: index_bench [make|start DIR [N]]\n");
    return 2;
  }
  for (const char* policy : {"lru", "s3fifo", "gdsf"}) apart([&] { measure_memory(policy); });
  for (const char* policy : {"lru", "s3fifo", "gdsf"}) {
    const Costs thousand = measure(policy, 1000);
    const Costs million = measure(policy, 1'000'000);
    const auto line = [&](const char* call, double few, double many) {
      std::printf("%-7s %-8s %7.0f ns at 1e3 %7.0f ns at 1e6  ratio %.2f\n", policy, call, few, many, many / few);
    };
    line("lookup", thousand.lookup, million.lookup);
    line("touch", thousand.touch, million.touch);
    line("victim", thousand.victim, million.victim);
    line("exchange", thousand.exchange, million.exchange);
    line("page", thousand.page, million.page);
  }
  return 0;
}
