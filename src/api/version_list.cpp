#include "api/version_list.hpp"

#include <algorithm>

#include "api/glance_answers.hpp"
#include "api/image_request.hpp"
#include "base/text.hpp"

namespace imagecache::api {
namespace {

/// "v2.16" → 16; nullopt for another major version or nonsense.
std::optional<std::uint64_t> minor_of(const Json& version) {
  if (!version.is_object() || !version.contains("id") || !version["id"].is_string()) return std::nullopt;
  const std::string& id = version["id"].get_ref<const std::string&>();
  if (!id.starts_with("v2.")) return std::nullopt;
  return base::parse_unsigned(std::string_view(id).substr(3));
}

/// A list of versions has no need of depth, and writing JSON costs stack for it.
bool is_deep(std::string_view json) {
  constexpr int most = 16;
  int depth = 0;
  bool in_text = false;
  for (std::size_t at = 0; at < json.size(); ++at) {
    const char c = json[at];
    if (in_text && c == '\\') {
      ++at;
    } else if (c == '"') {
      in_text = !in_text;
    } else if (!in_text && (c == '{' || c == '[')) {
      if (++depth > most) return true;
    } else if (!in_text && (c == '}' || c == ']')) {
      --depth;
    }
  }
  return false;
}

bool redirect_links(Json& version, std::string_view from, std::string_view to, bool https) {
  bool changed = false;
  if (to.empty() || !version.is_object() || !version.contains("links")) return false;
  for (Json& link : version["links"]) {
    if (!link.is_object() || !link.contains("href") || !link["href"].is_string()) continue;
    std::string& href = link["href"].get_ref<std::string&>();
    const auto scheme = href.find("://");
    if (scheme == std::string::npos) continue;
    const auto authority = scheme + 3;
    const auto end = std::min(href.find('/', authority), href.size());
    const std::string_view leads_to = std::string_view(href).substr(authority, end - authority);
    if (leads_to != to && (from.empty() || leads_to != from)) continue;
    std::string ours = (https ? "https" : href.substr(0, scheme)) + "://" + std::string(to) + href.substr(end);
    changed = changed || ours != href;
    href = std::move(ours);
  }
  return changed;
}

}  // namespace

std::optional<std::string> with_cache_versions(std::string_view body, std::string_view origin_authority,
                                               std::string_view own_authority, bool https) {
  if (is_deep(body)) return std::nullopt;
  Json document = Json::parse(body, nullptr, false);
  if (!document.is_object() || !document.contains("versions") || !document["versions"].is_array()) return std::nullopt;
  Json& versions = document["versions"];
  bool changed = false;
  for (Json& version : versions) changed = redirect_links(version, origin_authority, own_authority, https) || changed;

  const auto first = std::ranges::find_if(versions, [](const Json& v) { return minor_of(v).has_value(); });
  if (first == versions.end()) return changed ? std::optional(python_json(document)) : std::nullopt;
  const Json links = first->contains("links") ? (*first)["links"] : Json::array();
  for (const unsigned minor : cache_api_minors) {
    if (std::ranges::any_of(versions, [&](const Json& v) { return minor_of(v) == minor; })) continue;
    // Before the first that is lower: Glance lists the newest first.
    auto at = std::ranges::find_if(versions, [&](const Json& v) { return minor_of(v).value_or(UINT64_MAX) < minor; });
    versions.insert(at, Json{{"id", "v2." + std::to_string(minor)}, {"status", "SUPPORTED"}, {"links", links}});
    changed = true;
  }
  if (!changed) return std::nullopt;
  std::uint64_t newest = 0;
  for (const Json& version : versions) newest = std::max(newest, minor_of(version).value_or(0));
  for (Json& version : versions) {
    if (minor_of(version) == newest) {
      version["status"] = "CURRENT";
    } else if (minor_of(version) && version.value("status", "") == "CURRENT") {
      version["status"] = "SUPPORTED";
    }
  }
  return python_json(document);
}

}  // namespace imagecache::api
