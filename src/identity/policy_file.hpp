// The files that a policy is written in, YAML or JSON. The one place that includes yaml-cpp. Private to the room.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "imagecache/error.hpp"

namespace imagecache::identity {

struct NamedRule {
  std::string name;
  /// Text in the rule language, or the older list of lists; nothing where the file has no value.
  std::variant<std::monostate, std::string, std::vector<std::vector<std::string>>> rule;
  std::string where;  ///< "policy.yaml:12"
};

/// The rules in the order of the file; of one name the last counts. Errc::invalid_argument as "policy.yaml:12: why".
Result<std::vector<NamedRule>> parse_policy_file(std::string_view content, const std::string& name);
/// The same from disk; nullopt if there is no such file.
Result<std::optional<std::vector<NamedRule>>> read_policy_file(const std::filesystem::path& path,
                                                               std::size_t max_bytes);
/// Every file of the directory that is not hidden, sorted; none if there is no such directory.
Result<std::vector<std::filesystem::path>> list_policy_directory(const std::filesystem::path& directory);

}  // namespace imagecache::identity
