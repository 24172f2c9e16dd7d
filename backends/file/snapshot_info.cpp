#include "backends/file/snapshot_info.hpp"

#include <nlohmann/json.hpp>

#include "base/text.hpp"

namespace imagecache::backends {

std::string snapshot_info_name(const VolumeId& volume) {
  return volume.name + ".info";
}

Result<std::string> active_file(const VolumeId& volume, const std::optional<std::string>& info) {
  if (!info) return volume.name;
  const auto json = nlohmann::json::parse(*info, nullptr, false);
  if (json.is_object()) {
    const auto active = json.find("active");
    if (active != json.end() && active->is_string() && base::is_safe_name(active->get_ref<const std::string&>()))
      return active->get<std::string>();
  }
  return fail(Errc::corrupt, snapshot_info_name(volume) + ": does not say which file is active, as Cinder writes it");
}

}  // namespace imagecache::backends
