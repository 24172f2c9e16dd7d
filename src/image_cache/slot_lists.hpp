// Lines of slots, first in, first out. A slot stands in one line at most and finds its place in O(1). Twelve bytes a
// slot.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "image_cache/eviction.hpp"

namespace imagecache::image_cache {

template <unsigned lines>
class SlotLists {
 public:
  void push_back(unsigned line, Slot slot) {
    if (slot >= nodes_.size()) nodes_.resize(slot + std::size_t{1});
    Ends& ends = ends_[line];
    nodes_[slot] = {.previous = ends.last, .next = none, .line = line};
    (ends.last == none ? ends.first : nodes_[ends.last].next) = slot;
    ends.last = slot;
  }
  void erase(Slot slot) {
    const Node node = nodes_[slot];
    Ends& ends = ends_[node.line];
    (node.previous == none ? ends.first : nodes_[node.previous].next) = node.next;
    (node.next == none ? ends.last : nodes_[node.next].previous) = node.previous;
    nodes_[slot].line = none;
  }
  bool contains(Slot slot) const { return slot < nodes_.size() && nodes_[slot].line != none; }
  /// Of a slot that stands in one.
  unsigned line_of(Slot slot) const { return nodes_[slot].line; }
  std::optional<Slot> front(unsigned line) const {
    const Slot slot = ends_[line].first;
    return slot == none ? std::nullopt : std::optional(slot);
  }

 private:
  static constexpr std::uint32_t none = UINT32_MAX;
  struct Node {
    std::uint32_t previous = none;
    std::uint32_t next = none;
    std::uint32_t line = none;
  };
  struct Ends {
    std::uint32_t first = none;
    std::uint32_t last = none;
  };
  std::vector<Node> nodes_;
  std::array<Ends, lines> ends_;
};

}  // namespace imagecache::image_cache
