#include "api/volume_types.hpp"

#include <algorithm>
#include <array>

#include "base/try.hpp"

namespace imagecache::api {
namespace {

constexpr std::array<std::string_view, 3> specs_for_users = {"RESKEY:availability_zones", "multiattach",
                                                             "replication_enabled"};

catalog::VolumeType type_of(const volume_cache::Backend& backend) {
  const std::string& name = backend.options().volume_backend_name;
  return {.id = id_of_backend_type(name),
          .name = name,
          .description = "Backend " + backend.options().name,
          .is_public = true,
          .extra_specs = {{"volume_backend_name", name}}};
}

std::vector<catalog::VolumeType> types_of_backends(const volume_cache::VolumeCache& volumes) {
  std::vector<catalog::VolumeType> types;
  for (const auto& backend : volumes.backends()) {
    catalog::VolumeType type = type_of(*backend);
    bool known = false;
    for (const auto& other : types) known = known || other.name == type.name;  // two backends may share a name
    if (!known) types.push_back(std::move(type));
  }
  return types;
}

}  // namespace

Result<std::vector<catalog::VolumeType>> visible_types(volume_cache::VolumeCache& volumes) {
  IMAGECACHE_TRY(auto types, volumes.catalog().list_volume_types());
  if (types.empty()) types = types_of_backends(volumes);
  return types;
}

Result<std::optional<catalog::VolumeType>> find_type(volume_cache::VolumeCache& volumes,
                                                     const std::string& name_or_id) {
  IMAGECACHE_TRY(auto type, volumes.catalog().find_volume_type(name_or_id));
  if (type) return type;
  for (auto& candidate : types_of_backends(volumes)) {
    if (candidate.name == name_or_id || candidate.id == name_or_id) {
      return std::optional<catalog::VolumeType>(std::move(candidate));
    }
  }
  return std::optional<catalog::VolumeType>();
}

Result<std::optional<catalog::VolumeType>> default_type(volume_cache::VolumeCache& volumes,
                                                        const std::string& default_name) {
  if (!default_name.empty()) return find_type(volumes, default_name);
  if (volumes.backends().empty()) return std::optional<catalog::VolumeType>();
  IMAGECACHE_TRY(auto types, volumes.catalog().list_volume_types());
  const auto own = type_of(*volumes.backends().front());
  for (auto& type : types) {
    const auto spec = type.extra_specs.find("volume_backend_name");
    if (type.name == own.name || (spec != type.extra_specs.end() && spec->second == own.name)) {
      return std::optional<catalog::VolumeType>(std::move(type));
    }
  }
  return std::optional<catalog::VolumeType>(own);
}

Result<bool> may_use(volume_cache::VolumeCache& volumes, const base::RequestContext& who,
                     const catalog::VolumeType& type) {
  if (who.is_admin) return true;
  IMAGECACHE_TRY(const auto rows, volumes.catalog().list_volume_types());
  // Else a backend's own name would lead past the type that keeps the backend for a few.
  if (!rows.empty() && std::ranges::find(rows, type.id, &catalog::VolumeType::id) == rows.end()) return false;
  if (type.is_public) return true;
  IMAGECACHE_TRY(const auto ids, volumes.catalog().types_of_project(who.project_id));
  return std::ranges::find(ids, type.id) != ids.end();
}

Json type_view(const catalog::VolumeType& type, bool is_admin, TypeDetail detail) {
  Json specs = Json::object();
  for (const auto& [key, value] : type.extra_specs) {
    bool shown = is_admin;
    for (const std::string_view name : specs_for_users) shown = shown || key == name;
    if (shown) specs[key] = value;
  }
  Json view{{"id", type.id},
            {"name", type.name},
            {"is_public", type.is_public},
            {"description", or_null(type.description)},
            {"extra_specs", std::move(specs)}};
  if (detail != TypeDetail::updated) view["os-volume-type-access:is_public"] = type.is_public;
  if (detail == TypeDetail::shown && is_admin) view["qos_specs_id"] = nullptr;
  return view;
}

}  // namespace imagecache::api
