// An image for driver tests: random runs of data with holes between, the same for the same seed, delivered from several
// threads in no order.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <mutex>
#include <optional>
#include <random>
#include <span>
#include <thread>
#include <vector>

#include "imagecache/types.hpp"

namespace imagecache::test {

class RandomImage : public ImageFile {
 public:
  struct Shape {
    std::uint64_t virtual_size_bytes = 0;
    std::uint64_t run_bytes = 64 << 10;  ///< of the longest; a multiple of 512
    bool dense = false;                  ///< no holes
    unsigned threads = 4;
  };

  explicit RandomImage(const Shape& shape, unsigned seed = 1) : shape_(shape), seed_(seed) {
    std::mt19937 random(seed);
    for (std::uint64_t at = 0; at < shape.virtual_size_bytes;) {
      const std::uint64_t blocks = shape.run_bytes / 512;
      const std::uint64_t length = shape.dense ? shape.run_bytes : (1 + random() % blocks) * 512;
      runs_.push_back({at, std::min(length, shape.virtual_size_bytes - at)});
      at += length + (shape.dense ? 0 : (1 + random() % (4 * blocks)) * 512);
    }
    std::ranges::shuffle(runs_, random);
  }

  /// Called on a delivering thread before each run, with how many were begun before it.
  std::function<void(std::size_t)> before_run;
  /// For raw_fd().
  std::optional<int> fd;

  std::uint64_t virtual_size_bytes() const override { return shape_.virtual_size_bytes; }
  std::optional<int> raw_fd() const override { return fd; }

  Result<void> for_each_data(const Sink& sink, std::stop_token stop) const override {
    std::atomic<std::size_t> next = 0;
    std::mutex mutex;
    Result<void> outcome;
    const auto deliver = [&] {
      std::vector<std::byte> data;
      for (;;) {
        const std::size_t i = next++;
        if (i >= runs_.size()) return;
        if (before_run) before_run(i);
        Result<void> result;
        if (stop.stop_requested()) {
          result = fail(Errc::cancelled, "image: reading was stopped");
        } else {
          data.assign(runs_[i].length, std::byte{0});
          fill(runs_[i].offset, data);
          result = sink(runs_[i].offset, data);
        }
        if (!result) {
          next = runs_.size();
          const std::scoped_lock lock(mutex);
          if (outcome) outcome = result;
          return;
        }
      }
    };
    {
      std::vector<std::jthread> threads;
      for (unsigned i = 0; i < shape_.threads; ++i) threads.emplace_back(deliver);
    }
    return outcome;
  }

  /// The bytes that a reader must find at `offset`; zeroes behind the end.
  void expected(std::uint64_t offset, std::span<std::byte> data) const {
    std::ranges::fill(data, std::byte{0});
    for (const Run& run : runs_) {
      const std::uint64_t begin = std::max(run.offset, offset);
      const std::uint64_t end = std::min(run.offset + run.length, offset + data.size());
      if (begin < end) fill(begin, data.subspan(begin - offset, end - begin));
    }
  }

  std::uint64_t data_bytes() const {
    std::uint64_t sum = 0;
    for (const Run& run : runs_) sum += run.length;
    return sum;
  }

 private:
  struct Run {
    std::uint64_t offset, length;
  };
  /// Eight bytes at a time, a function of their place and the seed; no byte is zero. Offsets are multiples of 8.
  void fill(std::uint64_t offset, std::span<std::byte> data) const {
    for (std::size_t i = 0; i < data.size(); i += 8) {
      const std::uint64_t word = ((offset + i) * 0x9E3779B97F4A7C15u + seed_) | 0x0101010101010101u;
      std::memcpy(data.data() + i, &word, std::min<std::size_t>(8, data.size() - i));
    }
  }

  const Shape shape_;
  const unsigned seed_;
  std::vector<Run> runs_;
};

}  // namespace imagecache::test
