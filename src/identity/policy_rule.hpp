// One rule of a policy as a tree of checks. Private to the room.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace imagecache::identity {

/// A check's right side: text with "%(key)s" in it, as Python's % operator fills it from a dict.
struct Pattern {
  struct Piece {
    bool is_key = false;
    std::string text;
  };
  std::vector<Piece> pieces;
  bool malformed = false;  ///< Python would raise
};

struct Check {
  enum class Kind : std::uint8_t {
    always,     // "", "@"
    never,      // "!", and what cannot be parsed
    broken,     // what makes Python raise: the whole question is denied
    all_of,     // children
    any_of,     // children
    negation,   // of children[0]
    rule,       // the rule named `text`
    role,       // the caller has the role that `match` gives
    attribute,  // the caller's attribute `path` is what `match` gives
    literal,    // `text` is what `match` gives
  };
  Kind kind = Kind::never;
  std::string text{};
  std::vector<std::string> path{};
  Pattern match{};
  std::vector<std::unique_ptr<Check>> children{};
  unsigned depth = 1;  ///< of the tree below and with this; limited, so that recursion over it is
};
using CheckPtr = std::unique_ptr<Check>;

/// What parsing found wrong; each names what is wrong, not where.
struct RuleComplaints {
  std::vector<std::string> warnings;
  bool asks_http = false;  ///< a check of the kinds http: and https:
};

/// A rule in the policy language. Never fails: what cannot be understood becomes a check that denies.
CheckPtr parse_rule(std::string_view rule, RuleComplaints& complaints);
/// One check, such as "role:admin".
CheckPtr parse_check(std::string_view check, RuleComplaints& complaints);
/// The older form: any of the inner lists, all checks of which hold.
CheckPtr parse_list_rule(const std::vector<std::vector<std::string>>& rule, RuleComplaints& complaints);

}  // namespace imagecache::identity
