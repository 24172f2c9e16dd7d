// What the catalog costs: does a million rows cost what a thousand do, and how long does a durable change take for one
// caller and for sixteen?
//
//   catalog_bench [--benchmark_filter=…]
//
// Files lie under $TMPDIR: put that on the disk the catalog will be on, as a change is one sync of it. Every reading
// reports p50 and p99 in microseconds; sync_alone (as many bytes as a create writes, then fdatasync) is the floor of a
// change.

#include <SQLiteCpp/SQLiteCpp.h>
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "catalog/catalog.hpp"

namespace {

using namespace imagecache;
using Clock = std::chrono::steady_clock;

std::string id(std::uint64_t n) {
  // Spread over the index as real uuids are.
  const std::uint64_t mixed = n * 0x9E3779B97F4A7C15U;
  return fmt::format("{:08x}-{:04x}-4000-8000-{:012x}", mixed >> 32, (mixed >> 16) & 0xFFFF, n);
}

/// A catalog with `rows` volumes, each an image-volume too, in a directory that goes with it.
class Filled {
 public:
  explicit Filled(std::uint64_t rows) : rows_(rows) {
    std::string pattern = (std::filesystem::temp_directory_path() / "catalog-bench-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
    const auto path = (directory_ / "catalog.db").string();
    catalog::open_sqlite_catalog(path, {}, clock_).value().reset();
    fill(path);
    ::sync();  // what is still to be written of it would stand in the way of the first measurements
    const auto start = Clock::now();
    catalog_ = catalog::open_sqlite_catalog(path, {}, clock_).value();
    static_cast<void>(catalog_->find_volume(id(0)).value());
    open_us_ = std::chrono::duration<double, std::micro>(Clock::now() - start).count();
  }
  ~Filled() {
    catalog_.reset();
    std::filesystem::remove_all(directory_);
  }
  Filled(const Filled&) = delete;
  Filled& operator=(const Filled&) = delete;

  catalog::Catalog& catalog() { return *catalog_; }
  std::uint64_t rows() const { return rows_; }
  double open_us() const { return open_us_; }
  const std::filesystem::path& directory() const { return directory_; }

 private:
  void fill(const std::string& path) const {
    SQLite::Database database(path, SQLite::OPEN_READWRITE);
    database.exec("PRAGMA synchronous=OFF; PRAGMA cache_size=-400000; BEGIN");
    SQLite::Statement volume(
        database,
        "INSERT INTO volumes VALUES (NULL, ?1, 'volume-' || ?1, 'project-' || (?2 % 100), 'user', '', "
        "'', 'fast', 'host@fast#pool', '', 'available', '', 20, 'image', 'content', '', 'nova', 1, 1, "
        "'{}', '{\"image_id\":\"image\",\"os_distro\":\"debian\"}', 'req', ?2, 0, '', '')");
    SQLite::Statement image_volume(
        database,
        "INSERT INTO image_volumes (volume_id, backend, pool, content_key, image_id, image_updated_at, "
        "requesting_project, "
        "state, size_gb, virtual_size_bytes, clones, pinned, created_at, last_used, build_ms, used_bytes) "
        "VALUES (?1, 'fast', '', 'key-' || ?1, 'image', '', 'project', 'ready', 20, 1000000, 0, 0, ?2, ?2, 0, -1)");
    for (std::uint64_t n = 0; n < rows_; ++n) {
      for (auto* statement : {&volume, &image_volume}) {
        statement->bind(1, id(n));
        statement->bind(2, static_cast<std::int64_t>(n));
        statement->exec();
        statement->reset();
      }
    }
    database.exec("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)");
  }

  const std::uint64_t rows_;
  const base::SystemClock clock_;
  std::filesystem::path directory_;
  std::unique_ptr<catalog::Catalog> catalog_;
  double open_us_ = 0;
};

/// One of each size, made when first asked for.
Filled& filled(std::int64_t rows) {
  static std::mutex mutex;
  static std::map<std::int64_t, Filled> all;
  const std::lock_guard lock(mutex);
  return all.try_emplace(rows, static_cast<std::uint64_t>(rows)).first->second;
}

/// Times single calls: the mean alone would hide what one caller in a hundred waits.
class Timings {
 public:
  template <class Call>
  void time(const Call& call) {
    const auto start = Clock::now();
    call();
    us_.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
  }
  void report(benchmark::State& state) {
    if (us_.empty()) return;
    std::ranges::sort(us_);
    const auto at = [&](double share) {
      return benchmark::Counter(us_[static_cast<std::size_t>(share * static_cast<double>(us_.size() - 1))],
                                benchmark::Counter::kAvgThreads);
    };
    state.counters["p50_us"] = at(0.50);
    state.counters["p99_us"] = at(0.99);
  }

 private:
  std::vector<double> us_;
};

/// A call that fails is no measurement.
template <class T>
void check(benchmark::State& state, const Result<T>& result) {
  if (!result) state.SkipWithError(result.error().message.c_str());
}

void find_volume(benchmark::State& state) {
  auto& at = filled(state.range(0));
  std::minstd_rand random;
  Timings timings;
  for (auto _ : state) {
    const auto wanted = id(random() % at.rows());
    timings.time([&] { check(state, at.catalog().find_volume(wanted)); });
  }
  timings.report(state);
}

void find_image_volume(benchmark::State& state) {
  auto& at = filled(state.range(0));
  std::minstd_rand random;
  Timings timings;
  for (auto _ : state) {
    const auto wanted = "key-" + id(random() % at.rows());
    timings.time([&] { check(state, at.catalog().find_image_volume("fast", wanted, "")); });
  }
  timings.report(state);
}

void pick_victim(benchmark::State& state) {
  auto& at = filled(state.range(0));
  Timings timings;
  for (auto _ : state) timings.time([&] { check(state, at.catalog().least_recently_used("fast")); });
  timings.report(state);
}

void totals(benchmark::State& state) {
  auto& at = filled(state.range(0));
  Timings timings;
  for (auto _ : state) timings.time([&] { check(state, at.catalog().image_volume_totals("fast")); });
  timings.report(state);
}

void first_page_of_1000(benchmark::State& state) {
  auto& at = filled(state.range(0));
  Timings timings;
  for (auto _ : state) timings.time([&] { check(state, at.catalog().list_volumes({})); });
  timings.report(state);
  state.counters["open_us"] = at.open_us();
}

void create_volume(benchmark::State& state) {
  auto& at = filled(state.range(0));
  static std::atomic<std::uint64_t> next = std::uint64_t{1} << 40;
  catalog::Volume volume;
  volume.project_id = "creator";
  volume.backend = "fast";
  volume.status = "creating";
  volume.size_gb = 1;
  Timings timings;
  std::vector<std::string> made;
  for (auto _ : state) {
    volume.id = id(next++);
    volume.name = "volume-" + volume.id;
    timings.time([&] { check(state, at.catalog().create_volume(volume)); });
    made.push_back(volume.id);
  }
  timings.report(state);
  state.SetItemsProcessed(state.iterations());
  for (const auto& volume_id : made) check(state, at.catalog().remove_volume(volume_id));
}

void sync_alone(benchmark::State& state) {
  constexpr std::int64_t bytes = 32 << 10;  // what the log grows by for one create
  constexpr std::int64_t pieces = 100;
  auto& at = filled(1000);
  const int fd = ::open((at.directory() / "log").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  const std::vector<char> piece(bytes, 'x');
  const auto write_piece = [&](std::int64_t n) {
    return ::pwrite(fd, piece.data(), bytes, n % pieces * bytes) == bytes;
  };
  bool good = fd >= 0;
  for (std::int64_t n = 0; n < pieces; ++n) good = good && write_piece(n);
  if (!good || ::fsync(fd) != 0) state.SkipWithError("cannot write a file beside the catalog");
  Timings timings;
  std::int64_t n = 0;
  for (auto _ : state) {
    timings.time([&] {
      if (!write_piece(n++) || ::fdatasync(fd) != 0) state.SkipWithError("cannot sync");
    });
  }
  timings.report(state);
  if (fd >= 0) ::close(fd);
}

BENCHMARK(find_volume)->Arg(1000)->Arg(1'000'000);
BENCHMARK(find_image_volume)->Arg(1000)->Arg(1'000'000);
BENCHMARK(pick_victim)->Arg(1000)->Arg(1'000'000);
BENCHMARK(totals)->Arg(1000)->Arg(1'000'000);
BENCHMARK(first_page_of_1000)->Arg(1000)->Arg(1'000'000);
BENCHMARK(sync_alone)->UseRealTime();
BENCHMARK(create_volume)->Arg(1000)->Arg(1'000'000)->UseRealTime()->Threads(1)->Threads(16);

}  // namespace

BENCHMARK_MAIN();
