// The floor of a warm create on a file system with FICLONE: the bare system calls that a durable clone cannot do
// without, in a loop, with nothing of ours around them.
//
//   reflink_bare DIR [COUNT] [THREADS] [SOURCE_MIB] [EXTENTS]
//   reflink_bare DIR COUNT THREADS SOURCE_FILE
//
// DIR must be on XFS or btrfs. A source of SOURCE_MIB MiB is made with EXTENTS pieces of 64 KiB at even distances
// (EXTENTS 0: one dense run), or the file that is named (it has a '/') is taken; then COUNT clones of it are made by
// THREADS threads, each clone open(O_EXCL) + FICLONE + ftruncate + fsync(file) + fsync(dir). Prints one line of JSON,
// with the milliseconds of each clone in the order they began; all clones are removed.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "reflink_bare: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

int must(int result, const std::string& what) {
  if (result < 0) die(what);
  return result;
}

void make_source(const std::string& path, long size_mib, long extents) {
  const int fd = must(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0660), path);
  must(::ftruncate(fd, size_mib << 20), "ftruncate");
  const std::vector<char> data(extents == 0 ? 1 << 20 : 64 << 10, 'x');
  const long pieces = extents == 0 ? size_mib : extents;
  const long distance = (size_mib << 20) / pieces / 4096 * 4096;
  for (long i = 0; i < pieces; ++i) {
    if (::pwrite(fd, data.data(), data.size(), i * distance) != static_cast<ssize_t>(data.size())) die("pwrite");
  }
  must(::fsync(fd), "fsync");
  ::close(fd);
}

double clone_us(int directory, int source, const std::string& name, off_t size) {
  const auto start = std::chrono::steady_clock::now();
  const int fd = must(::openat(directory, name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0660), name);
  must(::ioctl(fd, FICLONE, source), "FICLONE (is this XFS or btrfs?)");
  must(::ftruncate(fd, size), "ftruncate");
  must(::fsync(fd), "fsync of the clone");
  must(::fsync(directory), "fsync of the directory");
  ::close(fd);
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: reflink_bare DIR [COUNT] [THREADS] [SOURCE_MIB|SOURCE_FILE] [EXTENTS]\n");
    return 2;
  }
  const std::string directory_path = argv[1];
  const auto number = [&](int at, long otherwise) { return argc > at ? std::atol(argv[at]) : otherwise; };
  const long count = std::max(number(2, 200), 1L), threads = std::max(number(3, 1), 1L);
  const bool is_given = argc > 4 && std::strchr(argv[4], '/') != nullptr;
  const std::string source_path = is_given ? argv[4] : directory_path + "/reflink-bare-source";
  struct stat given{};
  if (is_given) must(::stat(source_path.c_str(), &given), source_path);
  const long size_mib = is_given ? given.st_size >> 20 : std::max(number(4, 1024), 1L);
  const long extents = std::max(number(5, 0), 0L);
  if (!is_given) make_source(source_path, size_mib, extents);
  const int directory = must(::open(directory_path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), directory_path);
  const int source = must(::open(source_path.c_str(), O_RDONLY | O_CLOEXEC), source_path);
  const auto name = [](long i) { return "reflink-bare-" + std::to_string(i); };

  std::vector<double> times(static_cast<std::size_t>(count));
  const auto start = std::chrono::steady_clock::now();
  {
    std::vector<std::jthread> workers;
    for (long t = 0; t < threads; ++t) {
      workers.emplace_back([&, t] {
        for (long i = t; i < count; i += threads) {
          times[static_cast<std::size_t>(i)] = clone_us(directory, source, name(i), (size_mib + 1024) << 20);
        }
      });
    }
  }
  const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (long i = 0; i < count; ++i) ::unlinkat(directory, name(i).c_str(), 0);
  if (!is_given) ::unlink(source_path.c_str());

  const auto in_order = times;
  std::ranges::sort(times);
  const auto at = [&](double share) { return times[static_cast<std::size_t>(share * static_cast<double>(count - 1))]; };
  std::printf(
      "{\"bench\": \"reflink_bare\", \"count\": %ld, \"threads\": %ld, \"source_mib\": %ld, \"extents\": %ld, "
      "\"p50_us\": %.1f, \"p90_us\": %.1f, \"clones_per_s\": %.1f, \"times_ms\": [",
      count, threads, size_mib, std::max(extents, 1L), at(0.5), at(0.9), static_cast<double>(count) / wall);
  for (std::size_t i = 0; i < in_order.size(); ++i) std::printf("%s%.4f", i == 0 ? "" : ", ", in_order[i] / 1000);
  std::printf("]}\n");
  return 0;
}
