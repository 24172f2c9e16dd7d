// What a volume's status means: is work of ours going on, or has an administrator said so? The row's status_reason
// tells the two apart, also after a restart.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "catalog/catalog.hpp"

namespace imagecache::volume_cache {

/// An administrator has set the status (os-reset_status), and it is one that work or a failure of ours would have.
/// Whoever sets another status afterwards clears status_reason.
bool was_set_by_hand(const catalog::Volume& volume);

/// Something is being done that will change the row again: "creating", "extending"…
bool is_at_work(const catalog::Volume& volume);

/// Creating or deleting it failed, so for all we know it has no data: no status set by hand may say otherwise, and its
/// reason stays. A failed extend leaves a volume whole.
bool has_failed(const catalog::Volume& volume);

/// What status_reason is to say once an administrator has set this status; nullopt: what it says now.
std::optional<std::string> set_by_hand_reason(const catalog::Volume& volume, std::string_view new_status);

}  // namespace imagecache::volume_cache
