#include "cli/output.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "base/clock.hpp"
#include "base/text.hpp"
#include "cli/table.hpp"

namespace imagecache::cli {
namespace {

using nlohmann::json;

std::string dump(const json& value, int indent = -1) {
  return value.dump(indent, ' ', false, json::error_handler_t::replace);
}

const json& at_path(const json& object, const std::string& path) {
  static const json nothing;
  if (object.is_object() && object.contains(path)) return object.at(path);  // "os-vol-tenant-attr:tenant_id" and such
  const json* here = &object;
  for (const auto& step : base::split(path, '.')) {
    if (!here->is_object() || !here->contains(step)) return nothing;
    here = &here->at(step);
  }
  return *here;
}

Kind kind_of(const std::string& name) {
  if (name.ends_with("_bytes")) return Kind::bytes;
  if (name.ends_with("_gb")) return Kind::gib;
  return Kind::text;
}

bool is_flat(const json& list) {
  for (const auto& item : list) {
    if (item.is_structured()) return false;
  }
  return true;
}

void flatten(const std::string& prefix, const json& object, std::vector<std::vector<std::string>>& rows) {
  for (const auto& [name, value] : object.items()) {
    const auto full = prefix + name;
    if (value.is_object() && !value.empty()) {
      flatten(full + ".", value, rows);
    } else {
      rows.push_back({full, format_cell(value, kind_of(name))});
    }
  }
}

}  // namespace

std::string format_cell(const json& value, Kind kind) {
  if (value.is_null()) return kind == Kind::known_bytes ? "unknown" : "";
  if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_array() && is_flat(value)) {
    std::string text;
    for (const auto& item : value) text += (text.empty() ? "" : ", ") + format_cell(item, kind);
    return text;
  }
  if (!value.is_number()) return dump(value);
  const bool natural = value.is_number_unsigned() || (value.is_number_integer() && value.get<std::int64_t>() >= 0);
  switch (kind) {
    case Kind::bytes:
    case Kind::known_bytes:
      return natural ? base::format_bytes(value.get<std::uint64_t>()) : dump(value);
    case Kind::gib:
      return dump(value) + " GiB";
    case Kind::seconds:
      return dump(value) + " s";
    case Kind::epoch: {
      const auto seconds = value.get<double>();
      const bool sane = seconds > 0 && seconds < 1e11;  // beyond, the conversion would overflow
      return sane ? base::to_iso8601(base::from_epoch_seconds(seconds)).substr(0, 19) : "";
    }
    case Kind::text:
    case Kind::number:
      break;
  }
  return dump(value);
}

void Output::print_json(const json& value) {
  stream_ << dump(value, 2) << '\n';
}

void Output::print_csv(const std::vector<Column>& columns, const json& rows) {
  const auto print_line = [this](const std::vector<std::string>& fields) {
    const char* before = "";
    for (const auto& field : fields) {
      // A spreadsheet takes what begins with one of these for a formula; what we print was named by others.
      const bool formula = !field.empty() && std::string_view("=+-@\t").contains(field.front());
      std::string text = formula ? "'" + field : field;
      if (text.find_first_of(",\"\r\n") != std::string::npos) {
        for (std::size_t at = 0; (at = text.find('"', at)) != std::string::npos; at += 2) text.insert(at, 1, '"');
        text = '"' + text + '"';
      }
      stream_ << std::exchange(before, ",") << text;
    }
    stream_ << "\r\n";
  };
  std::vector<std::string> fields;
  fields.reserve(columns.size());
  for (const auto& column : columns) fields.push_back(column.key);
  print_line(fields);
  for (const auto& row : rows) {
    fields.clear();
    for (const auto& column : columns) fields.push_back(format_cell(at_path(row, column.key), Kind::text));
    print_line(fields);
  }
}

void Output::list(const std::vector<Column>& columns, const json& rows) {
  if (format_ == Format::csv) return print_csv(columns, rows);
  if (format_ == Format::json) return print_json(rows);
  std::vector<TableColumn> headers;
  headers.reserve(columns.size());
  for (const auto& column : columns)
    headers.push_back({column.header, column.kind != Kind::text && column.kind != Kind::epoch});
  std::vector<std::vector<std::string>> cells;
  for (const auto& row : rows) {
    auto& line = cells.emplace_back();
    for (const auto& column : columns) line.push_back(format_cell(at_path(row, column.key), column.kind));
  }
  stream_ << render_table(headers, cells);
}

void Output::record(const json& object) {
  if (format_ == Format::json || !object.is_object()) return print_json(object);
  std::vector<std::vector<std::string>> rows;
  flatten("", object, rows);
  stream_ << render_table({{"Field"}, {"Value"}}, rows);
}

void Output::say(const std::string& sentence) {
  if (format_ == Format::table && !quiet_) stream_ << printable(sentence) << '\n';
}

}  // namespace imagecache::cli
