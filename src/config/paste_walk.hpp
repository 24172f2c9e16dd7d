// The way of a request through the sections of a paste file. Private to the room.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "config/glance_filters.hpp"
#include "config/paste.hpp"

namespace imagecache::config {

class PasteWalk {
 public:
  /// `file` outlives the walk. `flavor` selects the line of a pipeline_factory; empty: "default".
  PasteWalk(const PasteFile& file, std::string_view flavor) : file_(file), flavor_(flavor) {}

  /// From application `name` on, for a request for `url_path` ("/v2/images"). May block on files that `use = config:`
  /// names. Errc::not_found where a section is missing, else invalid_argument.
  Result<void> application(std::string_view name, std::string_view url_path);

  bool passes(Filter filter) const { return seen_.contains(filter); }

 private:
  Result<void> filter(std::string_view name);
  Result<void> pipeline(std::string_view names, std::string_view url_path);
  Result<void> composite(const PasteSection& section, std::string_view url_path);
  Result<void> elsewhere(std::string_view uri, std::string_view url_path, bool is_filter);
  Result<void> note(const PasteSection& section);
  /// glance.filter_factory (up to Juno), paste.*_factory, or `use`; empty if there is none.
  Result<std::string> factory(const PasteSection& section) const;
  Result<void> go_down(std::string_view name);

  const PasteFile& file_;
  std::string_view flavor_;
  std::set<Filter> seen_;
  unsigned steps_ = 0;
};

/// The flavors that `file` has applications for, in its order; "" is glance-api itself.
std::vector<std::string> flavors_of(const PasteFile& file);

}  // namespace imagecache::config
