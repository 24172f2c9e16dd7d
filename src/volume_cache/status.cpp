#include "volume_cache/status.hpp"

#include <algorithm>
#include <array>

namespace imagecache::volume_cache {

namespace {

constexpr std::string_view by_hand = "reset by an administrator from ";
constexpr std::array<std::string_view, 6> at_work = {"creating", "downloading", "extending",
                                                     "deleting", "uploading",   "retyping"};

bool is_work(std::string_view status) {
  return std::ranges::find(at_work, status) != at_work.end();
}

}  // namespace

bool was_set_by_hand(const catalog::Volume& volume) {
  return volume.status_reason.starts_with(by_hand);
}

bool is_at_work(const catalog::Volume& volume) {
  return is_work(volume.status) && !was_set_by_hand(volume);
}

bool has_failed(const catalog::Volume& volume) {
  return volume.name.empty() ||
         (volume.status.starts_with("error") && volume.status != "error_extending" && !was_set_by_hand(volume));
}

std::optional<std::string> set_by_hand_reason(const catalog::Volume& volume, std::string_view new_status) {
  if (!is_work(new_status) && !new_status.starts_with("error")) return "";
  if (has_failed(volume)) return std::nullopt;
  return std::string(by_hand) + volume.status;
}

}  // namespace imagecache::volume_cache
