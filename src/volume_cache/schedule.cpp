// Which backend a new volume goes to.
#include <fmt/format.h>

#include <algorithm>

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
  std::string type = volume_type.empty() ? options.default_volume_type : volume_type;
  std::optional<catalog::VolumeType> row;
  if (!type.empty()) {
    IMAGECACHE_TRY(row, catalog.find_volume_type(type));
    if (row && !row->encryption.empty())
      return fail(Errc::unsupported,
                  fmt::format("Volume type {} is encrypted: its volumes take a key manager, which this service has "
                              "not. Use a type without encryption, or let Cinder make the volume.",
                              row->name));
  }
  // Without a row, a type is a backend's own by that backend's name.
  const auto is_own = [&](const std::unique_ptr<Backend>& of) {
    const BackendOptions& place = of->options();
    return !row && !type.empty() && (place.volume_backend_name == type || place.name == type);
  };
  if (!type.empty() && !row && std::ranges::none_of(backends, is_own)) {
    if (!volume_type.empty())
      return fail(Errc::not_found, fmt::format("Volume type with name {} could not be found.", type));
    // Cinder's file may name a type that only Cinder has.
    base::log::warning(room_name, nullptr,
                       "there is no volume type {} (default_volume_type) here: a volume without a type goes to the "
                       "first of enabled_backends; create the type, or name another",
                       type);
    type.clear();
  }
  if (!may_choose) return nullptr;
  const auto chosen = std::ranges::find_if(backends, [&](const std::unique_ptr<Backend>& of) {
    return takes_new(*of) && (type.empty() || is_own(of) || (row && serves(*of, *row)));
  });
  return chosen == backends.end() ? nullptr : chosen->get();
}

}  // namespace imagecache::volume_cache
