#include "config/settings.hpp"

#include <fmt/format.h>

#include <stdexcept>
#include <type_traits>

namespace imagecache::config {
namespace {

template <class T>
bool holds(Type type) {
  switch (type) {
    case Type::boolean:
      return std::is_same_v<T, bool>;
    case Type::integer:
    case Type::size:
      return std::is_same_v<T, std::int64_t>;
    case Type::real:
      return std::is_same_v<T, double>;
    case Type::string:
    case Type::path:
    case Type::bind_address:
      return std::is_same_v<T, std::string>;
    case Type::list:
    case Type::multi:
    case Type::origins:
      return std::is_same_v<T, std::vector<std::string>>;
  }
  return false;
}

}  // namespace

void Settings::bug(std::string_view option, std::string_view what) const {
  throw std::logic_error(fmt::format("bug: option [{}] {} {}", section_, option, what));
}

const Setting& Settings::find(std::string_view option) const {
  const auto found = settings_.find(option);
  if (found == settings_.end()) bug(option, "is not in the option table");
  return found->second;
}

template <class T>
const T* Settings::value_of(std::string_view option) const {
  const auto& setting = find(option);
  if (!holds<T>(setting.option->type)) bug(option, "is read as another type than it has");
  return setting.value ? &std::get<T>(*setting.value) : nullptr;
}

template <class T>
const T& Settings::value_or_bug(std::string_view option) const {
  // Asked of the table, not of the value, so that a test finds the bug without the operator's file.
  if (!find(option).option->default_text) bug(option, "has no default; use find_…");
  const auto* value = value_of<T>(option);
  if (value == nullptr) bug(option, "has lost its default");
  return *value;
}

bool Settings::get_bool(std::string_view option) const {
  return value_or_bug<bool>(option);
}

std::int64_t Settings::get_int(std::string_view option) const {
  return value_or_bug<std::int64_t>(option);
}

std::uint64_t Settings::get_unsigned(std::string_view option) const {
  if (find(option).option->min < 0) bug(option, "may be negative");
  return static_cast<std::uint64_t>(get_int(option));
}

std::chrono::seconds Settings::get_seconds(std::string_view option) const {
  return std::chrono::seconds(get_int(option));
}

double Settings::get_real(std::string_view option) const {
  return value_or_bug<double>(option);
}

std::string Settings::get_string(std::string_view option) const {
  const auto* value = value_of<std::string>(option);
  return value != nullptr ? *value : std::string();
}

std::vector<std::string> Settings::get_list(std::string_view option) const {
  const auto* value = value_of<std::vector<std::string>>(option);
  return value != nullptr ? *value : std::vector<std::string>();
}

BindAddress Settings::get_bind_address(std::string_view option) const {
  const auto* set = value_of<std::string>(option);
  if (set == nullptr) bug(option, "is not set; look with find_string first");
  auto address = parse_bind_address(*set);
  if (!address) bug(option, "is not an address");
  return *std::move(address);
}

std::optional<std::int64_t> Settings::find_int(std::string_view option) const {
  const auto* value = value_of<std::int64_t>(option);
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

std::optional<std::string> Settings::find_string(std::string_view option) const {
  const auto* value = value_of<std::string>(option);
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

std::optional<std::vector<std::string>> Settings::find_list(std::string_view option) const {
  const auto* value = value_of<std::vector<std::string>>(option);
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

void Settings::put(Setting setting) {
  auto name = std::string(setting.option->name);
  settings_.insert_or_assign(std::move(name), std::move(setting));
}

}  // namespace imagecache::config
