// What a command prints: for people as a table, for programs as JSON, lists for spreadsheets as CSV. Sizes are in words
// in a table and raw numbers else.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <ostream>
#include <string>
#include <vector>

namespace imagecache::cli {

enum class Format { table, json, csv };
/// What is null is an empty cell; of `known_bytes` it says that it is unknown, lest it be taken for nothing.
enum class Kind { text, number, bytes, known_bytes, gib, seconds, epoch };

/// A column of a list: where in each object the value is ("a.b" goes down), and what it is.
struct Column {
  std::string header;
  std::string key;
  Kind kind = Kind::text;
};

class Output {
 public:
  Output(std::ostream& stream, Format format, bool quiet = false) : stream_(stream), format_(format), quiet_(quiet) {}

  Format format() const { return format_; }
  /// An array of objects; JSON gets it as it is, CSV (RFC 4180) the columns.
  void list(const std::vector<Column>& columns, const nlohmann::json& rows);
  /// One object, a field a line; nested objects as "outer.inner". A name that ends in _bytes is a size.
  void record(const nlohmann::json& object);
  /// Text as it is, whatever the format.
  void raw(const std::string& text) { stream_ << text; }
  /// A sentence for people; nothing in JSON, or if quiet.
  void say(const std::string& sentence);

 private:
  void print_json(const nlohmann::json& value);
  void print_csv(const std::vector<Column>& columns, const nlohmann::json& rows);
  std::ostream& stream_;
  Format format_;
  bool quiet_;
};

/// A value as a table shows it: null and absent are "".
std::string format_cell(const nlohmann::json& value, Kind kind);

}  // namespace imagecache::cli
