#include "api/image_request.hpp"

#include <algorithm>

#include "base/text.hpp"
#include "http/router.hpp"

namespace imagecache::api {
namespace {

constexpr std::string_view vendor_type = "application/vnd.openstack.images-";

/// "v2" → 0, "v2.7" → 7; nullopt for what no Image API that we know is called. No leading zeroes, as in Glance.
std::optional<unsigned> minor_of(std::string_view version) {
  if (version == "v2") return 0;
  if (!version.starts_with("v2.")) return std::nullopt;
  const std::string_view digits = version.substr(3);
  const auto minor = base::parse_unsigned(digits);
  if (!minor || *minor > newest_image_minor || (digits.size() > 1 && digits.front() == '0')) return std::nullopt;
  return static_cast<unsigned>(*minor);
}

bool is_cache_minor(unsigned minor) {
  return std::ranges::find(cache_api_minors, minor) != cache_api_minors.end();
}

}  // namespace

ImageRequest read_image_request(std::string_view target, std::string_view accept) {
  const std::string_view raw = target.substr(0, target.find('?'));
  std::string_view rest = raw;
  while (rest.starts_with('/')) rest.remove_prefix(1);
  const std::string_view first = rest.substr(0, rest.find('/'));
  const std::string_view behind = rest.substr(first.size());

  ImageRequest request;
  request.path = http::percent_decode(raw);
  if (first == "versions") {
    request.asks_versions = true;
    return request;
  }
  if (accept.starts_with(vendor_type)) {
    const auto minor = minor_of(accept.substr(vendor_type.size()));
    request.asks_versions = !minor;
    if (!minor) return request;
    request.path = "/v2" + http::percent_decode(raw);
    if (is_cache_minor(*minor)) request.upstream_accept = std::string(vendor_type) + "v2";
    return request;
  }
  const auto minor = minor_of(first);
  if (!minor) {
    // A newer version than ours may be one of the origin's.
    request.asks_versions = first != "healthcheck" && !first.starts_with("v2.");
    return request;
  }
  request.path = "/v2" + http::percent_decode(behind);
  if (is_cache_minor(*minor)) {
    const std::string_view query = target.substr(raw.size());
    request.upstream_target = "/v2" + std::string(behind) + std::string(query);
  }
  return request;
}

std::string image_id_in(std::string_view path) {
  constexpr std::string_view prefix = "/v2/images/";
  if (!path.starts_with(prefix)) return {};
  const std::string_view rest = path.substr(prefix.size());
  const std::string_view id = rest.substr(0, rest.find('/'));
  if (id == "detail") return {};
  // A database that compares without regard to case finds the image under either spelling.
  return base::is_uuid(id) ? base::to_lower(id) : std::string(id);
}

std::string image_id_of(std::string_view path, std::string_view suffix) {
  std::string id = image_id_in(path);
  constexpr std::string_view prefix = "/v2/images/";
  if (id.empty() || path.substr(prefix.size() + id.size()) != suffix) return {};
  return id;
}

std::vector<std::string> identity_headers(const std::vector<http::Header>& headers) {
  constexpr std::array<std::string_view, 12> prefixes = {
      "x-user-",         "x-project-",         "x-tenant-",         "x-domain-",
      "x-is-admin",      "x-service-user-",    "x-service-project", "x-service-domain",
      "x-service-roles", "x-service-identity", "x-service-catalog", "openstack-system-scope"};
  constexpr std::array<std::string_view, 6> names = {"x-identity-status", "x-roles",       "x-role", "x-user",
                                                     "x-tenant",          "x-system-scope"};
  std::vector<std::string> found;
  for (const auto& [name, value] : headers) {
    std::string plain = base::to_lower(name);
    // A WSGI server makes the same variable of "X_Roles" and "X-Roles".
    std::ranges::replace(plain, '_', '-');
    const bool speaks = std::ranges::find(names, plain) != names.end() ||
                        std::ranges::any_of(prefixes, [&](std::string_view p) { return plain.starts_with(p); });
    if (speaks) found.push_back(name);
  }
  return found;
}

}  // namespace imagecache::api
