// S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023), weighted by bytes: images differ
// in size by a factor of a thousand, and room is what is short.

#include <algorithm>
#include <deque>
#include <functional>
#include <unordered_map>

#include "image_cache/eviction.hpp"
#include "image_cache/slot_lists.hpp"

namespace imagecache::image_cache {
namespace {

constexpr std::uint64_t most_uses = 3;
constexpr std::uint64_t uses_for_main = 1;
constexpr std::uint64_t small_share = 10;  // the small line's part of the capacity is a tenth

/// What left the small line lately: ids by their hash, bounded by the bytes that they had, as they would compete for
/// the main line, and by number.
class Ghosts {
 public:
  explicit Ghosts(std::uint64_t limit_bytes) : limit_bytes_(limit_bytes) {}

  void remember(std::uint64_t id, std::uint64_t size_bytes, std::size_t most) {
    const auto number = next_number_++;
    numbers_.insert_or_assign(id, number);
    line_.push_back({.id = id, .number = number, .size_bytes = size_bytes});
    bytes_ += size_bytes;
    while (!line_.empty() && (bytes_ > limit_bytes_ || line_.size() > most)) drop_first();
  }
  /// Whether it was remembered; it is not any more.
  bool take(std::uint64_t id) {
    return numbers_.erase(id) > 0;  // its place in the line goes when its turn comes
  }

 private:
  struct Ghost {
    std::uint64_t id;
    std::uint64_t number;
    std::uint64_t size_bytes;
  };
  void drop_first() {
    const Ghost& first = line_.front();
    if (const auto found = numbers_.find(first.id); found != numbers_.end() && found->second == first.number) {
      numbers_.erase(found);
    }
    bytes_ -= first.size_bytes;
    line_.pop_front();
  }

  const std::uint64_t limit_bytes_;
  std::uint64_t bytes_ = 0;
  std::uint64_t next_number_ = 0;
  std::deque<Ghost> line_;
  std::unordered_map<std::uint64_t, std::uint64_t> numbers_;
};

class S3Fifo final : public EvictionPolicy {
 public:
  explicit S3Fifo(std::uint64_t capacity_bytes)
      : small_limit_bytes_(capacity_bytes / small_share), ghosts_(capacity_bytes - capacity_bytes / small_share) {}

  void insert(Slot slot, std::string_view id, const EvictionFacts& facts) override {
    if (slot >= files_.size()) files_.resize(slot + std::size_t{1});
    const std::uint64_t hash = std::hash<std::string_view>{}(id);
    files_[slot] = {.id = hash, .size_bytes = facts.size_bytes & most_bytes, .uses = 0};
    ++count_;
    // What was read before a restart has earned its place in the main line, as what comes back has.
    enter(slot, ghosts_.take(hash) || facts.uses > 0 ? main : small);
  }
  void touch(Slot slot) override {
    if (lines_.contains(slot))
      files_[slot].uses = std::min<std::uint64_t>(most_uses, files_[slot].uses + 1) & most_uses;
  }
  void erase(Slot slot, bool evicted) override {
    if (!lines_.contains(slot)) return;
    const File& file = files_[slot];
    if (evicted && lines_.line_of(slot) == small) ghosts_.remember(file.id, file.size_bytes, 16 + count_);
    leave(slot);
    --count_;
  }
  std::optional<Slot> victim() override {
    // Each turn moves a file on or takes a use from it, and a file has few: paid for by the touches that gave them.
    for (;;) {
      const auto first_small = lines_.front(small);
      const auto first_main = lines_.front(main);
      if (first_small && (bytes_[small] > small_limit_bytes_ || !first_main)) {
        if (files_[*first_small].uses <= uses_for_main) return first_small;
        leave(*first_small);
        files_[*first_small].uses = 0;
        enter(*first_small, main);
      } else if (first_main) {
        if (files_[*first_main].uses == 0) return first_main;
        --files_[*first_main].uses;
        leave(*first_main);
        enter(*first_main, main);
      } else {
        return std::nullopt;
      }
    }
  }

 private:
  static constexpr unsigned small = 0;
  static constexpr unsigned main = 1;
  static constexpr std::uint64_t most_bytes = (std::uint64_t{1} << 56) - 1;
  struct File {
    std::uint64_t id = 0;
    std::uint64_t size_bytes : 56 = 0;
    std::uint64_t uses : 8 = 0;
  };
  void enter(Slot slot, unsigned line) {
    lines_.push_back(line, slot);
    bytes_[line] += files_[slot].size_bytes;
  }
  void leave(Slot slot) {
    bytes_[lines_.line_of(slot)] -= files_[slot].size_bytes;
    lines_.erase(slot);
  }

  const std::uint64_t small_limit_bytes_;
  std::vector<File> files_;
  SlotLists<2> lines_;
  std::array<std::uint64_t, 2> bytes_{};
  std::size_t count_ = 0;
  Ghosts ghosts_;
};

}  // namespace

std::unique_ptr<EvictionPolicy> make_s3fifo(std::uint64_t capacity_bytes) {
  return std::make_unique<S3Fifo>(capacity_bytes);
}

}  // namespace imagecache::image_cache
