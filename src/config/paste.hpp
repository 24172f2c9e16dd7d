// paste.deploy's INI grammar, as paste/deploy/loadwsgi.py reads it with Python's ConfigParser, so that a paste file
// means to us what it means to glance-api. It is not oslo.config's grammar:
//
//   key = value            or "key: value"; the first of '=' and ':' separates
//     continued            a line further in than its key goes on with the value, across blank lines and comments too
//     # comment            '#' and ';' after any blanks; "a = b # c" has the value "b # c"
//   [kind:name]            once only, names with their case; [DEFAULT] holds for all
//   %(other)s              the section's key, else [DEFAULT]'s, else `here` and `__file__`; "%%" is one percent sign
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "imagecache/error.hpp"

namespace imagecache::config {

struct PasteEntry {
  std::string key;
  std::string value;  ///< lines joined by '\n', without %(…)s replaced
  unsigned line = 0;
};

struct PasteSection {
  std::string kind;  ///< "pipeline", "filter", …; empty for a header without ':'
  std::string name;
  unsigned line = 0;
  std::vector<PasteEntry> entries;

  std::string header() const { return "[" + kind + ":" + name + "]"; }
};

struct PasteFile {
  std::string path;  ///< as given; for messages, and for %(here)s
  std::vector<PasteEntry> defaults;
  std::vector<PasteSection> sections;

  /// The section that paste.deploy would take for an application of that name: app, application, composite, composit,
  /// pipeline or filter-app. nullptr if there is none; Errc::conflict if there are several.
  Result<const PasteSection*> find_app(std::string_view name) const;
  /// The same for [filter:name].
  Result<const PasteSection*> find_filter(std::string_view name) const;
  /// %(…)s replaced; nullopt if neither the section nor [DEFAULT] has the key.
  Result<std::optional<std::string>> value(const PasteSection& section, std::string_view key) const;
  /// "/etc/glance/glance-api-paste.ini:12"
  std::string where(unsigned line) const { return path + ":" + std::to_string(line); }

 private:
  const PasteEntry* find(const PasteSection& section, std::string_view key) const;
  /// `left`: so many names more may be replaced, however deep; a file of doublings would never end.
  Result<std::string> interpolate(const PasteSection& section, const PasteEntry& entry, unsigned& left) const;
};

/// Pure; any thread. Errc::invalid_argument with file and line for what ConfigParser refuses: the first mistake only,
/// as glance-api would tell.
Result<PasteFile> parse_paste(std::string_view text, std::string path);

}  // namespace imagecache::config
