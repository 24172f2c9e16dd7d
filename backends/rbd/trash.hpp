// Image-volumes that were deleted while clones of them live: in the pool's trash, each until its last clone is gone,
// whoever deletes that. Others use the same trash: ours are known there by a mark in their metadata.
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <string>

#include "backends/rbd/cluster.hpp"

namespace imagecache::backends {

/// Any thread.
class Trash {
 public:
  explicit Trash(Cluster& cluster) : cluster_(cluster) {}

  /// Marks an open image that is about to go there. Not earlier: a clone gets a copy of whatever metadata its parent
  /// has, and is not ours to take out of the trash. An error's code, or 0.
  static int mark(librbd::Image& image);
  /// An image of this id is there now.
  void add(const std::string& id);
  std::size_t size() const;
  bool contains(const std::string& id) const;

  /// Removes it, unless it still has clones.
  void remove(Connection& connection, const std::string& id);
  /// Tries each.
  void remove_all(Connection& connection);
  /// Somebody else has deleted a clone of who knows which: the next maintain() tries all.
  void try_all_soon();
  /// The first time looks for what an earlier process has left there. Then tries what it has not tried for a while:
  /// for a clone that lives for months, each two minutes.
  Result<void> maintain();

 private:
  struct Wait {
    std::chrono::steady_clock::time_point until;
    std::chrono::seconds length{0};
    bool is_stuck = false;  ///< and that was said
  };
  Result<void> search(const std::shared_ptr<Connection>& connection);

  Cluster& cluster_;
  mutable std::mutex mutex_;
  // Protected by mutex_.
  std::map<std::string, Wait> waiting_;  // by id
  bool was_searched_ = false;
};

}  // namespace imagecache::backends
