// Texts of the files to values: oslo.config's types (oslo_config/types.py), and a few of our own.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "base/text.hpp"
#include "base/try.hpp"
#include "config/bind_address.hpp"
#include "config/options.hpp"

namespace imagecache::config {
namespace {

constexpr std::int64_t int64_min = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t int64_max = std::numeric_limits<std::int64_t>::max();

using Parsed = Result<std::optional<Value>>;

std::unexpected<Error> refuse(const Option& option) {
  return fail(Errc::invalid_argument, "must be " + describe_allowed(option));
}

// Python's int(): a sign and single underscores between digits are allowed.
std::optional<std::int64_t> parse_integer(std::string_view text) {
  std::string digits;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool between = i > 0 && i + 1 < text.size() && text[i - 1] != '_' && text[i - 1] != '-' && text[i - 1] != '+';
    if (text[i] == '_' && between) continue;
    if (text[i] == '+' && i == 0 && text.size() > 1 && text[1] != '-') continue;
    digits += text[i];
  }
  std::int64_t value = 0;
  const auto* end = digits.data() + digits.size();
  const auto [at, error] = std::from_chars(digits.data(), end, value);
  if (digits.empty() || error != std::errc() || at != end) return std::nullopt;
  return value;
}

std::optional<std::int64_t> parse_size(std::string_view text) {
  const auto letters = text.find_first_not_of("0123456789");
  const auto number = base::parse_unsigned(text.substr(0, letters));
  if (!number) return std::nullopt;
  auto unit = letters == std::string_view::npos ? std::string() : base::to_lower(base::trim(text.substr(letters)));
  if (unit.ends_with("ib")) unit.resize(unit.size() - 2);
  if (unit.ends_with('b')) unit.resize(unit.size() - 1);
  constexpr std::array<std::string_view, 6> units = {"", "k", "m", "g", "t", "p"};
  const auto found = std::ranges::find(units, unit);
  if (found == units.end()) return std::nullopt;
  const auto shift = 10 * static_cast<unsigned>(found - units.begin());
  if (*number > static_cast<std::uint64_t>(int64_max) >> shift) return std::nullopt;
  return static_cast<std::int64_t>(*number << shift);
}

std::optional<double> parse_real(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || at != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

Parsed number(const Option& option, std::string_view text) {
  text = base::trim(text);
  if (text.empty()) return std::nullopt;
  if (option.type == Type::real) {
    const auto value = parse_real(text);
    const bool fits = value && *value >= static_cast<double>(option.min) && *value <= static_cast<double>(option.max);
    if (!fits) return refuse(option);
    return Value(*value);
  }
  const auto value = option.type == Type::size ? parse_size(text) : parse_integer(text);
  if (!value || *value < option.min || *value > option.max) return refuse(option);
  return Value(*value);
}

Parsed boolean(const Option& option, std::string_view text) {
  constexpr std::array<std::string_view, 4> yes = {"true", "1", "on", "yes"};
  constexpr std::array<std::string_view, 4> no = {"false", "0", "off", "no"};
  const auto lower = base::to_lower(text);
  if (std::ranges::find(yes, lower) != yes.end()) return Value(true);
  if (std::ranges::find(no, lower) != no.end()) return Value(false);
  return refuse(option);
}

// One trailing comma and more are dropped, an empty item between commas is kept, as oslo.config does.
std::vector<std::string> split_list(std::string_view text) {
  text = base::trim(text);
  while (text.ends_with(',')) text.remove_suffix(1);
  std::vector<std::string> items;
  if (text.empty()) return items;
  for (const auto& item : base::split(text, ',')) items.emplace_back(base::trim(item));
  return items;
}

Parsed choice(const Option& option, std::string_view text) {
  for (const auto& allowed : base::split(option.choices, ',')) {
    if (base::to_lower(text) == base::to_lower(allowed)) return Value(allowed);
  }
  return refuse(option);
}

Parsed origin_list(const Option& option, std::string_view text) {
  auto items = split_list(text);
  for (const auto& item : items) {
    const bool http =
        (item.starts_with("http://") && item.size() > 7) || (item.starts_with("https://") && item.size() > 8);
    const bool file = item.starts_with("file:///") && items.size() == 1;
    if (!http && !file) return refuse(option);
  }
  if (items.empty()) return std::nullopt;
  return Value(std::move(items));
}

}  // namespace

Result<std::optional<Value>> parse_value(const Option& option, std::string_view text) {
  switch (option.type) {
    case Type::boolean:
      return boolean(option, text);
    case Type::integer:
    case Type::size:
    case Type::real:
      return number(option, text);
    case Type::string:
      if (!option.choices.empty()) return choice(option, text);
      return Value(std::string(text));
    case Type::list:
      return Value(split_list(text));
    case Type::multi:
      return Value(std::vector{std::string(text)});
    case Type::path:
      if (text.empty()) return std::nullopt;
      if (!text.starts_with('/') || text.find('\n') != std::string_view::npos) return refuse(option);
      return Value(std::string(text));
    case Type::bind_address: {
      IMAGECACHE_TRY(const auto address, parse_bind_address(text));
      return Value(address.to_string());
    }
    case Type::origins:
      return origin_list(option, text);
  }
  return refuse(option);
}

std::string format_value(const Value& value) {
  struct Format {
    std::string operator()(bool flag) const { return flag ? "true" : "false"; }
    std::string operator()(std::int64_t number) const { return std::to_string(number); }
    std::string operator()(double number) const { return fmt::format("{}", number); }
    std::string operator()(const std::string& text) const { return text; }
    std::string operator()(const std::vector<std::string>& items) const {
      return fmt::format("{}", fmt::join(items, ","));
    }
  };
  return std::visit(Format(), value);
}

std::string describe_allowed(const Option& option) {
  const auto with_range = [&](std::string text) {
    if (option.min != int64_min && option.max != int64_max) {
      return fmt::format("{} from {} to {}", text, option.min, option.max);
    }
    if (option.min != int64_min) return fmt::format("{}, at least {}", text, option.min);
    if (option.max != int64_max) return fmt::format("{}, at most {}", text, option.max);
    return text;
  };
  switch (option.type) {
    case Type::boolean:
      return "true or false (also 1/0, yes/no, on/off)";
    case Type::integer:
      return with_range("a whole number");
    case Type::size:
      return with_range("a size in bytes, or with K, M, G or T (powers of 1024)");
    case Type::real:
      return with_range("a number");
    case Type::string:
      if (option.choices.empty()) return "any text";
      return "one of " + fmt::format("{}", fmt::join(base::split(option.choices, ','), ", "));
    case Type::list:
      return "a list, separated by commas";
    case Type::multi:
      return "any text; may be given more than once";
    case Type::path:
      return "an absolute path";
    case Type::bind_address:
      return "host:port, [ipv6]:port or unix:/path";
    case Type::origins:
      return "a list of http:// or https:// URLs, or one file:///directory";
  }
  return {};
}

}  // namespace imagecache::config
