// Finds the slot of an id in a look or two, however many there are: a tree of a million ids is twenty looks at memory
// that no processor's cache holds. Open addressing, eight bytes a cell; ids themselves are the owner's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "image_cache/eviction.hpp"

namespace imagecache::image_cache {

class SlotIndex {
 public:
  /// `is_it(slot)`: whether that slot's id is `id`.
  template <class IsIt>
  std::optional<Slot> find(std::string_view id, IsIt is_it) const {
    if (cells_.empty()) return std::nullopt;
    const std::uint32_t hash = hash_of(id);
    for (std::size_t at = home(hash); cells_[at].slot != none; at = after(at)) {
      if (cells_[at].hash == hash && is_it(cells_[at].slot)) return cells_[at].slot;
    }
    return std::nullopt;
  }
  /// An id that is not there yet.
  void insert(std::string_view id, Slot slot) {
    if (10 * (count_ + 1) > 7 * cells_.size()) grow(cells_.empty() ? 16 : 2 * cells_.size());
    ++count_;
    place({.hash = hash_of(id), .slot = slot});
  }
  /// A slot that is there, under its id.
  void erase(std::string_view id, Slot slot) {
    std::size_t hole = home(hash_of(id));
    while (cells_[hole].slot != slot) hole = after(hole);
    // What stands behind moves up, unless it would pass its home: so no marks are left of what is gone.
    for (std::size_t at = after(hole); cells_[at].slot != none; at = after(at)) {
      const std::size_t mask = cells_.size() - 1;
      if (((at - home(cells_[at].hash)) & mask) < ((at - hole) & mask)) continue;
      cells_[hole] = cells_[at];
      hole = at;
    }
    cells_[hole] = {};
    --count_;
  }
  void reserve(std::size_t count) {
    std::size_t cells = 16;
    while (10 * count > 7 * cells) cells *= 2;
    if (cells > cells_.size()) grow(cells);
  }

 private:
  static constexpr Slot none = UINT32_MAX;
  struct Cell {
    std::uint32_t hash = 0;
    Slot slot = none;
  };
  static std::uint32_t hash_of(std::string_view id) {
    const std::uint64_t hash = std::hash<std::string_view>{}(id);
    return static_cast<std::uint32_t>(hash ^ hash >> 32);
  }
  std::size_t home(std::uint32_t hash) const { return hash & (cells_.size() - 1); }
  std::size_t after(std::size_t at) const { return (at + 1) & (cells_.size() - 1); }
  void place(Cell cell) {
    std::size_t at = home(cell.hash);
    while (cells_[at].slot != none) at = after(at);
    cells_[at] = cell;
  }
  void grow(std::size_t cells) {
    const auto former = std::exchange(cells_, std::vector<Cell>(cells));
    for (const Cell& cell : former) {
      if (cell.slot != none) place(cell);
    }
  }

  std::vector<Cell> cells_;  // a power of two, never full
  std::size_t count_ = 0;
};

}  // namespace imagecache::image_cache
