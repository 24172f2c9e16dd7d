// The options of one section with their values: checked, with coded defaults filled in.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/bind_address.hpp"
#include "config/options.hpp"

namespace imagecache::config {

struct Setting {
  const Option* option = nullptr;  ///< in the table, which lives as long as the program
  std::optional<Value> value;      ///< nullopt: neither set nor has it a default
  bool is_set = false;             ///< by a file or the environment
  std::string where;               ///< "cinder.conf:12", "environment OS_…", or "default"
};

/// Immutable once loaded; any thread. An option that is not in the table, or is of another type, is a bug of ours: the
/// getters throw std::logic_error then, whatever the files say. get_… of a number or bool wants an option with a
/// default; get_string and get_list give an empty value for an option that has none and is not set.
class Settings {
 public:
  Settings() = default;
  explicit Settings(std::string section) : section_(std::move(section)) {}

  bool is_set(std::string_view option) const { return find(option).is_set; }
  /// Where the value comes from, for a message.
  const std::string& where(std::string_view option) const { return find(option).where; }

  bool get_bool(std::string_view option) const;
  std::int64_t get_int(std::string_view option) const;
  /// For options whose least value is 0 or more.
  std::uint64_t get_unsigned(std::string_view option) const;
  std::chrono::seconds get_seconds(std::string_view option) const;
  double get_real(std::string_view option) const;
  std::string get_string(std::string_view option) const;
  std::vector<std::string> get_list(std::string_view option) const;
  BindAddress get_bind_address(std::string_view option) const;

  std::optional<std::int64_t> find_int(std::string_view option) const;
  std::optional<std::string> find_string(std::string_view option) const;
  std::optional<std::vector<std::string>> find_list(std::string_view option) const;

  const std::string& section() const { return section_; }
  const std::map<std::string, Setting, std::less<>>& all() const { return settings_; }
  void put(Setting setting);

 private:
  const Setting& find(std::string_view option) const;
  template <class T>
  const T* value_of(std::string_view option) const;
  template <class T>
  const T& value_or_bug(std::string_view option) const;
  [[noreturn]] void bug(std::string_view option, std::string_view what) const;

  std::string section_;
  std::map<std::string, Setting, std::less<>> settings_;
};

}  // namespace imagecache::config
