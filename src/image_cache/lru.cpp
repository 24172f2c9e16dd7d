#include "image_cache/eviction.hpp"
#include "image_cache/slot_lists.hpp"

namespace imagecache::image_cache {
namespace {

/// By the order of uses and not by their times, so that a clock that is set back changes nothing.
class Lru final : public EvictionPolicy {
 public:
  void insert(Slot slot, std::string_view /*id*/, const EvictionFacts& /*facts*/) override { line_.push_back(0, slot); }
  void touch(Slot slot) override {
    if (!line_.contains(slot)) return;
    line_.erase(slot);
    line_.push_back(0, slot);
  }
  void erase(Slot slot, bool /*evicted*/) override {
    if (line_.contains(slot)) line_.erase(slot);
  }
  std::optional<Slot> victim() override { return line_.front(0); }

 private:
  SlotLists<1> line_;
};

}  // namespace

std::unique_ptr<EvictionPolicy> make_lru() {
  return std::make_unique<Lru>();
}

}  // namespace imagecache::image_cache
