#include "config/glance_filters.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <string>

#include "base/text.hpp"

namespace imagecache::config {
namespace {

struct Known {
  std::string_view text;
  Filter filter;
};

// A module, with everything in it.
constexpr auto modules = std::to_array<Known>({
    {"glance.api.middleware.cache", Filter::cache},
    {"glance.api.middleware.image_cache", Filter::cache},  // Diablo
    {"glance.api.middleware.cache_manage", Filter::cache_manage},
    {"keystonemiddleware.auth_token", Filter::auth_token},
    {"keystoneclient.middleware.auth_token", Filter::auth_token},
    {"keystone.middleware.auth_token", Filter::auth_token},
    {"oslo_middleware.healthcheck", Filter::healthcheck},
});

constexpr auto classes = std::to_array<Known>({
    {"oslo_middleware:Healthcheck", Filter::healthcheck},
    {"glance.api.middleware.context:ContextMiddleware", Filter::other},
    {"glance.api.middleware.context:UnauthenticatedContextMiddleware", Filter::other},
});

// Entry points, without their distribution's name, which distributions write in several ways.
constexpr auto eggs = std::to_array<Known>({
    {"keystonemiddleware#auth_token", Filter::auth_token},
    {"oslo.middleware#healthcheck", Filter::healthcheck},
});

constexpr auto names = std::to_array<Known>({
    {"cache", Filter::cache},
    {"imagecache", Filter::cache},
    {"cachemanage", Filter::cache_manage},
    {"authtoken", Filter::auth_token},
    {"healthcheck", Filter::healthcheck},
});

// Packages whose other filters are none of our business.
constexpr auto packages = std::to_array<std::string_view>({"glance.", "oslo_middleware", "osprofiler.", "keystone."});

Filter look_up(std::span<const Known> table, std::string_view text) {
  const auto found = std::ranges::find(table, text, &Known::text);
  return found == table.end() ? Filter::unknown : found->filter;
}

Filter filter_of_egg(std::string_view egg) {
  auto spec = base::to_lower(base::trim(egg));
  std::ranges::replace(spec, '_', '.');
  for (const auto& known : eggs) {
    std::string text(known.text);
    std::ranges::replace(text, '_', '.');
    if (spec == text) return known.filter;
  }
  return spec.starts_with("oslo.middleware#") ? Filter::other : Filter::unknown;
}

}  // namespace

Filter filter_of_factory(std::string_view factory) {
  factory = base::trim(factory);
  if (factory.starts_with("egg:")) return filter_of_egg(factory.substr(4));
  if (factory.starts_with("call:")) factory.remove_prefix(5);
  const auto colon = factory.find(':');
  const auto module = base::trim(factory.substr(0, colon));
  if (const auto found = look_up(modules, module); found != Filter::unknown) return found;
  if (colon != std::string_view::npos) {
    const auto attribute = base::trim(factory.substr(colon + 1));
    const auto name = std::string(module) + ":" + std::string(attribute.substr(0, attribute.find('.')));
    if (const auto found = look_up(classes, name); found != Filter::unknown) return found;
  }
  const bool is_theirs =
      std::ranges::any_of(packages, [&](std::string_view package) { return module.starts_with(package); });
  return is_theirs ? Filter::other : Filter::unknown;
}

Filter filter_of_name(std::string_view name) {
  return look_up(names, name);
}

}  // namespace imagecache::config
