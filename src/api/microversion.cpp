#include "api/microversion.hpp"

#include <fmt/format.h>

#include <optional>

#include "base/text.hpp"

namespace imagecache::api {
namespace {

std::optional<Microversion> parse(std::string_view text) {
  const auto dot = text.find('.');
  if (dot == std::string_view::npos || text.size() > 12) return std::nullopt;
  const auto major = base::parse_unsigned(text.substr(0, dot));
  const auto minor = base::parse_unsigned(text.substr(dot + 1));
  if (!major || !minor || *major > 9999 || *minor > 9999) return std::nullopt;
  return Microversion{static_cast<unsigned>(*major), static_cast<unsigned>(*minor)};
}

}  // namespace

std::string Microversion::text() const {
  return fmt::format("{}.{}", major, minor);
}

VersionAsked negotiate_version(std::string_view header) {
  for (const std::string& entry : base::split(header, ',')) {
    const std::string_view trimmed = base::trim(entry);
    const auto blank = trimmed.find(' ');
    if (blank == std::string_view::npos) continue;
    const std::string service = base::to_lower(trimmed.substr(0, blank));
    if (service != "volume" && service != "block-storage") continue;
    const std::string_view wanted = base::trim(trimmed.substr(blank));
    if (base::to_lower(wanted) == "latest") return {newest_version, VersionProblem::none, {}};
    const auto version = parse(wanted);
    if (!version) {
      return {oldest_version, VersionProblem::malformed,
              fmt::format("API Version String '{}' is of invalid format. It must be of format MajorNum.MinorNum.",
                          wanted.substr(0, 64))};
    }
    if (*version < oldest_version || *version > newest_version) {
      return {oldest_version, VersionProblem::out_of_range,
              fmt::format("Version {} is not supported by the API. Minimum is {} and maximum is {}.", version->text(),
                          oldest_version.text(), newest_version.text())};
    }
    return {*version, VersionProblem::none, {}};
  }
  return {};
}

}  // namespace imagecache::api
