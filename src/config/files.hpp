// What the operator's files say, before it means anything: every occurrence of every key with its file and line, in the
// order of precedence, and oslo.config's $substitution.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "imagecache/error.hpp"

namespace imagecache::config {

/// One --config-file or --config-dir, in the order of the command line.
struct ConfigSource {
  enum class Kind { file, directory };
  Kind kind = Kind::file;
  std::filesystem::path path;
};

struct Occurrence {
  std::string value;
  std::string where;  ///< "/etc/cinder/cinder.conf:12"
};

/// Problems are texts of one line, "file:line: what is wrong".
using Problems = std::vector<std::string>;

class Files {
 public:
  /// Reads all sources; a directory's *.conf in the order of their names. Blocks. What cannot be read is a problem, and
  /// the rest is read.
  static Files read(const std::vector<ConfigSource>& sources, Problems& problems);

  bool has_section(std::string_view section) const;
  /// In the order of reading: the last one wins. Empty if the key is nowhere.
  const std::vector<Occurrence>& occurrences(std::string_view section, std::string_view key) const;
  const std::map<std::string, std::vector<Occurrence>, std::less<>>& keys(std::string_view section) const;

  /// Adds one more occurrence at the end: what an environment variable says.
  void add(std::string_view section, std::string_view key, Occurrence occurrence);
  /// Adds the entries of one file's text; `name` stands in messages.
  void add_text(std::string_view text, const std::string& name, Problems& problems);

 private:
  void add_file(const std::filesystem::path& path, Problems& problems);
  void add_directory(const std::filesystem::path& path, Problems& problems);

  std::map<std::string, std::map<std::string, std::vector<Occurrence>, std::less<>>, std::less<>> sections_;
};

/// Finds what `$name`, `${name}` and `${group.name}` stand for; nullopt if there is no such option.
using Lookup = std::function<Result<std::optional<std::string>>(std::string_view name)>;

/// Replaces `$name`, `${name}`, `${group.name}`; "$$" and "\$" give one '$', any other '$' stays. An unknown name is
/// Errc::not_found; a failure of `lookup` is passed on.
Result<std::string> substitute(std::string_view text, const Lookup& lookup);

}  // namespace imagecache::config
