// Greedy-Dual-Size-Frequency (Cherkasova 1998): a file's worth is its uses times what it costs to have it again, by the
// byte, on top of the worth of the last file that went. So what is not used any more is overtaken in the end.

#include <algorithm>
#include <vector>

#include "image_cache/eviction.hpp"

namespace imagecache::image_cache {
namespace {

// Where no fill has been timed: a request, then bytes at the rate of a common network.
constexpr double assumed_seconds = 1.0;
constexpr double assumed_bytes_per_s = 200e6;
/// More uses than this add nothing: an image that was popular for a month must not take a month to be forgotten.
constexpr std::uint32_t most_uses = 32;

class Gdsf final : public EvictionPolicy {
 public:
  void insert(Slot slot, std::string_view /*id*/, const EvictionFacts& facts) override {
    if (slot >= files_.size()) files_.resize(slot + std::size_t{1});
    File& file = files_[slot];
    const double size = std::max(1.0, static_cast<double>(facts.size_bytes));
    const double seconds = facts.fetch_seconds > 0 ? facts.fetch_seconds : assumed_seconds + size / assumed_bytes_per_s;
    file.value_per_use = seconds / size;
    file.uses = static_cast<std::uint32_t>(std::min<std::uint64_t>(most_uses, facts.uses + 1));
    file.worth = age_ + file.uses * file.value_per_use;
    file.number = next_number_++;
    file.place = static_cast<std::uint32_t>(heap_.size());
    heap_.push_back(slot);
    rise(file.place);
  }
  void touch(Slot slot) override {
    if (!contains(slot)) return;
    File& file = files_[slot];
    file.uses = std::min(most_uses, file.uses + 1);
    file.worth = age_ + file.uses * file.value_per_use;
    file.number = next_number_++;
    sink(file.place);
  }
  void erase(Slot slot, bool evicted) override {
    if (!contains(slot)) return;
    File& file = files_[slot];
    if (evicted) age_ = std::max(age_, file.worth);
    const auto place = file.place;
    file.place = nowhere;
    const Slot last = heap_.back();
    heap_.pop_back();
    if (last == slot) return;
    heap_[place] = last;
    files_[last].place = place;
    rise(place);
    sink(files_[last].place);
  }
  std::optional<Slot> victim() override { return heap_.empty() ? std::nullopt : std::optional(heap_.front()); }

 private:
  static constexpr std::uint32_t nowhere = UINT32_MAX;
  struct File {
    double worth = 0;
    double value_per_use = 0;
    std::uint64_t number = 0;  // of its last use: the elder goes first among equals
    std::uint32_t place = nowhere;
    std::uint32_t uses = 0;
  };

  bool contains(Slot slot) const { return slot < files_.size() && files_[slot].place != nowhere; }
  bool goes_before(Slot a, Slot b) const {
    const File& one = files_[a];
    const File& other = files_[b];
    return one.worth != other.worth ? one.worth < other.worth : one.number < other.number;
  }
  void exchange(std::uint32_t a, std::uint32_t b) {
    std::swap(heap_[a], heap_[b]);
    files_[heap_[a]].place = a;
    files_[heap_[b]].place = b;
  }
  void rise(std::uint32_t place) {
    while (place > 0 && goes_before(heap_[place], heap_[(place - 1) / 2])) {
      exchange(place, (place - 1) / 2);
      place = (place - 1) / 2;
    }
  }
  void sink(std::uint32_t place) {
    for (;;) {
      std::uint32_t first = place;
      for (const std::uint32_t child : {2 * place + 1, 2 * place + 2}) {
        if (child < heap_.size() && goes_before(heap_[child], heap_[first])) first = child;
      }
      if (first == place) return;
      exchange(place, first);
      place = first;
    }
  }

  double age_ = 0;
  std::uint64_t next_number_ = 0;
  std::vector<File> files_;
  std::vector<Slot> heap_;  // the next to go is the first
};

}  // namespace

std::unique_ptr<EvictionPolicy> make_gdsf() {
  return std::make_unique<Gdsf>();
}

}  // namespace imagecache::image_cache
