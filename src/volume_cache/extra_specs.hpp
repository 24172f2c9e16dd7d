// May a backend make volumes of a type? Cinder's rules (cinder.scheduler.filters.capabilities_filter, extra_specs_ops):
// every extra spec without a scope, or with the scope "capabilities", must agree with what the backend says of itself.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace imagecache::volume_cache {

/// A capability has one value or several, of which one must agree. Numbers and booleans as Python writes them.
using CapabilityValues = std::map<std::string, std::vector<std::string>>;

bool satisfies(const std::map<std::string, std::string>& extra_specs, const CapabilityValues& capabilities);

/// One value against what is asked: "gold", "<is> True", ">= 10", "s== gold", "<in> old", "<or> gold <or> silver".
bool agrees(std::string_view value, std::string_view wanted);

}  // namespace imagecache::volume_cache
