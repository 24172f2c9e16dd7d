#include "api/volume_request.hpp"

#include <fmt/format.h>

#include <array>

#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::api {
namespace {

constexpr std::size_t max_text = 255;
constexpr Microversion strict_since{3, 53};

constexpr std::array<std::string_view, 19> create_keys = {
    "size",         "name",        "display_name", "description",         "display_description",
    "imageRef",     "image_id",    "source_volid", "snapshot_id",         "backup_id",
    "volume_type",  "metadata",    "multiattach",  "consistencygroup_id", "availability_zone",
    "source_group", "source_type", "group_id",     "source_replica"};
constexpr std::array<std::string_view, 5> update_keys = {"name", "display_name", "description", "display_description",
                                                         "metadata"};

template <std::size_t n>
Result<void> refuse_unknown(const JsonIn& object, const std::array<std::string_view, n>& known) {
  for (const auto& [key, value] : object.items()) {
    bool is_known = false;
    for (const std::string_view name : known) is_known = is_known || key == name;
    if (!is_known) {
      return fail(Errc::invalid_argument,
                  fmt::format("Additional properties are not allowed ('{}' was unexpected)", key));
    }
  }
  return {};
}

/// A member that has an older name too.
Result<std::optional<std::string>> either(const JsonIn& object, std::string_view key, std::string_view older) {
  IMAGECACHE_TRY(auto value, string_member(object, key, max_text));
  if (value) return value;
  return string_member(object, older, max_text);
}

Result<void> refuse_sources(const JsonIn& volume) {
  struct Source {
    std::string_view key;
    std::string_view words;
  };
  static constexpr std::array<Source, 3> refused = {
      {{"backup_id", "a backup"}, {"consistencygroup_id", "a consistency group"}, {"group_id", "a group"}}};
  for (const Source& source : refused) {
    if (member(volume, source.key) == nullptr) continue;
    return fail(Errc::invalid_argument, fmt::format("Invalid input received: {}: this service makes volumes from "
                                                    "images and volumes, or empty, not from {}.",
                                                    source.key, source.words));
  }
  IMAGECACHE_TRY(const auto snapshot, string_member(volume, "snapshot_id", max_text));
  if (snapshot && !snapshot->empty())
    return fail(Errc::not_found, fmt::format("Snapshot {} could not be found.", *snapshot));
  IMAGECACHE_TRY(const auto multiattach, bool_member(volume, "multiattach"));
  if (multiattach.value_or(false)) {
    return fail(Errc::invalid_argument,
                "Invalid input received: multiattach: this service has no volume types with multiattach.");
  }
  return {};
}

Result<std::string> image_id_of(const JsonIn& volume) {
  IMAGECACHE_TRY(auto reference, string_member(volume, "imageRef", 1024));
  if (!reference) {
    IMAGECACHE_TRY(reference, string_member(volume, "image_id", 1024));
  }
  if (!reference) return std::string();
  std::string id = reference->substr(reference->rfind('/') + 1);
  if (!base::is_uuid(id)) {
    return fail(Errc::invalid_argument, "Invalid image identifier or unable to access requested image.");
  }
  return base::to_lower(id);
}

}  // namespace

Result<JsonIn> wrapped_object(std::string_view body, std::string_view key, std::string_view allowed) {
  IMAGECACHE_TRY(auto json, parse_object(body));
  for (const auto& [name, value] : json.items()) {
    if (name != key && name != allowed) {
      return fail(Errc::invalid_argument,
                  fmt::format("Additional properties are not allowed ('{}' was unexpected)", name));
    }
  }
  const auto found = json.find(key);
  if (found == json.end()) return fail(Errc::invalid_argument, fmt::format("'{}' is a required property", key));
  if (!found->is_object()) {
    return fail(Errc::invalid_argument,
                fmt::format("Invalid input for field/attribute {}. It is not of type 'object'", key));
  }
  return JsonIn(std::move(*found));
}

Result<VolumeCreateBody> parse_volume_create(std::string_view body, Microversion version) {
  IMAGECACHE_TRY(const JsonIn volume, wrapped_object(body, "volume", "OS-SCH-HNT:scheduler_hints"));
  if (version >= strict_since) IMAGECACHE_CHECK(refuse_unknown(volume, create_keys));
  VolumeCreateBody create;
  IMAGECACHE_TRY(const auto size, size_member(volume, "size"));
  IMAGECACHE_TRY(const auto name, either(volume, "name", "display_name"));
  IMAGECACHE_TRY(const auto description, either(volume, "description", "display_description"));
  IMAGECACHE_TRY(const auto type, string_member(volume, "volume_type", max_text));
  IMAGECACHE_TRY(const auto zone, string_member(volume, "availability_zone", max_text));
  IMAGECACHE_TRY(auto metadata, map_member(volume, "metadata"));
  IMAGECACHE_CHECK(refuse_sources(volume));
  IMAGECACHE_TRY(create.image_id, image_id_of(volume));
  IMAGECACHE_TRY(const auto source, string_member(volume, "source_volid", max_text));
  create.source_volid = source.value_or("");
  if (!create.source_volid.empty() && !create.image_id.empty()) {
    return fail(Errc::invalid_argument,
                "Invalid input received: May specify only one of snapshot, imageRef or source volume");
  }
  if (!size && create.source_volid.empty()) {
    return fail(Errc::invalid_argument,
                "Invalid input received: Volume size 'None' must be an integer and greater than 0");
  }
  create.size_gb = size.value_or(0);
  create.name = name.value_or("");
  create.description = description.value_or("");
  create.volume_type = type.value_or("");
  create.availability_zone = zone.value_or("");
  if (metadata) create.metadata = std::move(*metadata);
  return create;
}

Result<VolumeUpdateBody> parse_volume_update(std::string_view body, Microversion version) {
  IMAGECACHE_TRY(const JsonIn volume, wrapped_object(body, "volume"));
  if (version >= strict_since) {
    IMAGECACHE_CHECK(refuse_unknown(volume, update_keys));
    if (volume.empty()) {
      return fail(Errc::invalid_argument,
                  "Invalid input for field/attribute volume. Value: {}. {} does not have enough properties");
    }
  }
  VolumeUpdateBody update;
  IMAGECACHE_TRY(update.name, either(volume, "name", "display_name"));
  IMAGECACHE_TRY(update.description, either(volume, "description", "display_description"));
  IMAGECACHE_TRY(update.metadata, map_member(volume, "metadata"));
  return update;
}

}  // namespace imagecache::api
