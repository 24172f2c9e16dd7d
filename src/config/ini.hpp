// oslo.config's INI grammar, as oslo_config/iniparser.py reads it, so that a file means to us what it means to Cinder
// and Glance:
//
//   key = value            or "key: value"; the first of '=' and ':' separates
//     continued            a line that starts with a blank goes on with the value (also "  # this")
//   # comment              '#' and ';' only in column 0; "a = b # c" has the value "b # c"
//   quoted = "value"       one pair of matching quotes around the first line is dropped
//   [section]              may come again: its lines are added
//
// A blank line or a comment ends a value. Where oslo.config stops at the first mistake, all are collected here, each
// with its line.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace imagecache::config {

struct IniEntry {
  std::string section;  ///< normalized: "DEFAULT", or lower-case
  std::string key;      ///< as written; keys are case-sensitive
  std::string value;    ///< lines joined by '\n'
  unsigned line = 0;    ///< of the key
};

struct IniProblem {
  unsigned line = 0;
  std::string message;
};

struct IniFile {
  std::vector<std::string> sections;  ///< normalized, each once, in the order of their first header
  std::vector<IniEntry> entries;      ///< in the order of the file; the same key may come again
  std::vector<IniProblem> problems;   ///< the lines they name are left out of `entries`
};

/// Never fails: what cannot be read is in `problems`. Pure; any thread.
IniFile parse_ini(std::string_view text);

/// "DEFAULT" stays, every other name is lower-cased ([default] is not [DEFAULT]).
std::string normalize_section(std::string_view name);

}  // namespace imagecache::config
