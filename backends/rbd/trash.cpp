#include "backends/rbd/trash.hpp"

#include <algorithm>
#include <cerrno>
#include <vector>

#include "base/log.hpp"
#include "base/try.hpp"

namespace imagecache::backends {
namespace {

const std::string mark_key = "cinder-image-cache";
const std::string mark_value = "image-volume";

constexpr std::chrono::seconds first_wait{10};
constexpr std::chrono::seconds longest_wait{120};

}  // namespace

int Trash::mark(librbd::Image& image) {
  return image.metadata_set(mark_key, mark_value);
}

void Trash::add(const std::string& id) {
  const std::lock_guard lock(mutex_);
  waiting_.try_emplace(id);
}

std::size_t Trash::size() const {
  const std::lock_guard lock(mutex_);
  return waiting_.size();
}

bool Trash::contains(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  return waiting_.contains(id);
}

void Trash::remove(Connection& connection, const std::string& id) {
  {
    // Asked first, since trying costs the cluster two writes and librbd complains of what is in the way.
    librbd::Image image;
    std::vector<librbd::linked_image_spec_t> clones;
    if (connection.rbd.open_by_id_read_only(connection.pool, image, id.c_str(), nullptr) >= 0 &&
        image.list_children3(&clones) >= 0 && !clones.empty())
      return;
  }
  const int code = connection.rbd.trash_remove(connection.pool, id.c_str(), false);
  const std::lock_guard lock(mutex_);
  const auto entry = waiting_.find(id);
  if (entry == waiting_.end()) return;
  if (code >= 0 || code == -ENOENT) {
    waiting_.erase(entry);
  } else if (code == -ENOTEMPTY && !entry->second.is_stuck) {
    entry->second.is_stuck = true;
    base::log::warning("rbd", nullptr,
                       "image {} in the trash of pool {} is an image-volume that nobody needs, but has a snapshot that "
                       "is not ours: look at it by \"rbd snap ls --image-id\"",
                       id, connection.pool.get_pool_name());
  }
}

void Trash::remove_all(Connection& connection) {
  std::vector<std::string> ids;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, wait] : waiting_) ids.push_back(id);
  }
  for (const std::string& id : ids) remove(connection, id);
}

void Trash::try_all_soon() {
  const std::lock_guard lock(mutex_);
  for (auto& [id, wait] : waiting_) wait = {.until = {}, .length = {}, .is_stuck = wait.is_stuck};
}

Result<void> Trash::maintain() {
  std::vector<std::string> due;
  bool search_first = false;
  const auto now = std::chrono::steady_clock::now();
  const auto take_due = [&] {
    const std::lock_guard lock(mutex_);
    search_first = !was_searched_;
    for (auto& [id, wait] : waiting_) {
      if (now < wait.until) continue;
      wait.length = std::clamp(wait.length * 2, first_wait, longest_wait);
      wait.until = now + wait.length;
      due.push_back(id);
    }
  };
  take_due();
  if (!search_first && due.empty()) return {};
  IMAGECACHE_TRY(const auto connection, cluster_.get());
  if (search_first) {
    IMAGECACHE_CHECK(search(connection));
    take_due();
  }
  for (const std::string& id : due) remove(*connection, id);
  return {};
}

Result<void> Trash::search(const std::shared_ptr<Connection>& connection) {
  std::vector<librbd::trash_image_info_t> entries;
  if (const int code = connection->rbd.trash_list(connection->pool, entries); code < 0) {
    return cluster_.failed("pool " + connection->pool.get_pool_name() + ": cannot list its trash", code, connection);
  }
  for (const auto& entry : entries) {
    librbd::Image image;
    std::string found;
    if (connection->rbd.open_by_id_read_only(connection->pool, image, entry.id.c_str(), nullptr) < 0) continue;
    if (image.metadata_get(mark_key, &found) >= 0 && found == mark_value) add(entry.id);
  }
  const std::lock_guard lock(mutex_);
  was_searched_ = true;
  return {};
}

}  // namespace imagecache::backends
