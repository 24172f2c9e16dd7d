// Which backend a new volume goes to.
#include <fmt/format.h>

#include "volume_cache/extra_specs.hpp"
#include "volume_cache/impl.hpp"

namespace imagecache::volume_cache {

namespace {

CapabilityValues capabilities_of(const BackendOptions& options) {
  return {{"volume_backend_name", {options.volume_backend_name}},
          {"pool_name", {options.volume_backend_name}},
          {"vendor_name", {options.vendor_name}},
          {"storage_protocol", options.storage_protocols},
          {"QoS_support", {"False"}},
          {"multiattach", {"False"}},
          {"replication_enabled", {"False"}},
          {"consistent_group_snapshot_enabled", {"False"}},
          {"online_extend_support", {"False"}},
          {"reserved_percentage", {"0"}}};
}

}  // namespace

bool VolumeCache::Impl::serves(const Backend& of, const catalog::VolumeType& type) const {
  return satisfies(type.extra_specs, capabilities_of(of.options()));
}

Result<Backend*> VolumeCache::Impl::resolve_backend(const std::string& section, const std::string& volume_type) {
  if (backends.empty()) return fail(Errc::unavailable, "no backend is configured: set enabled_backends");
  if (!section.empty()) {
    if (Backend* found = backend(section)) return found;
    return fail(Errc::invalid_argument, fmt::format("backend \"{}\" is not one of enabled_backends", section));
  }
  IMAGECACHE_TRY(auto states, catalog.service_states());
  const auto takes_new = [&](const Backend& of) {
    const auto state = states.find(of.options().host);
    return state == states.end() || (!state->second.disabled && !state->second.frozen);
  };
  // The service that chooses, as it is listed: without a backend in its name.
  const bool may_choose = !states[options.host].disabled;
  const std::string& type = volume_type.empty() ? options.default_volume_type : volume_type;
  std::optional<catalog::VolumeType> row;
  if (!type.empty()) {
    IMAGECACHE_TRY(row, catalog.find_volume_type(type));
    if (row && !row->encryption.empty())
      return fail(Errc::unsupported,
                  fmt::format("Volume type {} is encrypted: its volumes take a key manager, which this service has "
                              "not. Use a type without encryption, or let Cinder make the volume.",
                              row->name));
  }
  bool is_known = type.empty() || row;
  for (const auto& candidate : backends) {
    const BackendOptions& place = candidate->options();
    // Without a row, a type is a backend's own by that backend's name.
    const bool is_own = !row && !type.empty() && (place.volume_backend_name == type || place.name == type);
    is_known = is_known || is_own;
    if (may_choose && takes_new(*candidate) && (type.empty() || is_own || (row && serves(*candidate, *row))))
      return candidate.get();
  }
  if (!is_known) return fail(Errc::not_found, fmt::format("Volume type with name {} could not be found.", type));
  return nullptr;
}

}  // namespace imagecache::volume_cache
