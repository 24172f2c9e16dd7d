// Which version of the Block Storage API a request wants: "OpenStack-API-Version: volume 3.27".
#pragma once

#include <compare>
#include <string>
#include <string_view>

#include "imagecache/error.hpp"

namespace imagecache::api {

struct Microversion {
  unsigned major = 3;
  unsigned minor = 0;
  auto operator<=>(const Microversion&) const = default;
  std::string text() const;
};

inline constexpr Microversion oldest_version{3, 0};
/// The newest whose fields and rules are all kept for the resources that are served here; 3.68 begins with os-reimage.
inline constexpr Microversion newest_version{3, 67};

enum class VersionProblem { none, malformed, out_of_range };

struct VersionAsked {
  Microversion version;  ///< to be answered with; oldest_version where there is a problem
  VersionProblem problem = VersionProblem::none;
  std::string message;
};

/// Reads the header's value: entries of several services may stand in it, separated by commas. No entry for "volume"
/// (or "block-storage") is 3.0, "latest" the newest.
VersionAsked negotiate_version(std::string_view header);

}  // namespace imagecache::api
