#include "identity/policy_rule.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <initializer_list>
#include <optional>
#include <utility>

#include "base/text.hpp"

namespace imagecache::identity {
namespace {

constexpr unsigned max_depth = 100;

bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_word(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

CheckPtr make(Check::Kind kind, std::string text = {}) {
  auto check = std::make_unique<Check>();
  check->kind = kind;
  check->text = std::move(text);
  return check;
}

void add(Check& parent, CheckPtr child) {
  parent.depth = std::max(parent.depth, child->depth + 1);
  parent.children.push_back(std::move(child));
}

CheckPtr join(Check::Kind kind, CheckPtr first, CheckPtr second) {
  auto check = make(kind);
  add(*check, std::move(first));
  if (second) add(*check, std::move(second));
  return check;
}

Pattern parse_pattern(std::string_view text) {
  Pattern pattern;
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      plain += text[i];
      continue;
    }
    if (text.substr(i).starts_with("%%")) {
      plain += '%';
      ++i;
      continue;
    }
    const auto end = text.find(')', i);
    if (!text.substr(i).starts_with("%(") || end == std::string_view::npos || !text.substr(end).starts_with(")s")) {
      pattern.malformed = true;
      return pattern;
    }
    if (!plain.empty()) pattern.pieces.push_back({.is_key = false, .text = std::exchange(plain, {})});
    pattern.pieces.push_back({.is_key = true, .text = std::string(text.substr(i + 2, end - i - 2))});
    i = end + 1;
  }
  if (!plain.empty()) pattern.pieces.push_back({.is_key = false, .text = std::move(plain)});
  return pattern;
}

/// 'text' or "text" without its quotes.
std::optional<std::string> unquote(std::string_view text) {
  if (text.size() < 2 || (text[0] != '\'' && text[0] != '"') || text.back() != text[0]) return std::nullopt;
  std::string plain;
  for (std::size_t i = 1; i + 1 < text.size(); ++i) {
    if (text[i] == text[0]) return std::nullopt;
    if (text[i] == '\\') {
      ++i;
      if (i + 1 >= text.size() || !std::string_view("\\'\"").contains(text[i])) return std::nullopt;
    }
    plain += text[i];
  }
  return plain;
}

/// A number as Python prints it again.
std::optional<std::string> number(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  const auto digits = std::ranges::count_if(text, is_digit);
  if (digits == 0 || !std::ranges::all_of(text, [](char c) { return is_digit(c) || c == '.'; })) return std::nullopt;
  const bool zero = std::ranges::all_of(text, [](char c) { return c == '0' || c == '.'; });
  if (!text.contains('.')) {
    if (zero) return "0";
    if (text[0] == '0') return std::nullopt;
    return (negative ? "-" : "") + std::string(text);
  }
  double value = 0;
  if (const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      error != std::errc() || end != text.data() + text.size() || (!zero && value < 1e-4) || value >= 1e16) {
    return std::nullopt;
  }
  std::array<char, 64> buffer{};
  const auto [end, error] =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed);
  if (error != std::errc()) return std::nullopt;
  std::string printed(buffer.data(), end);
  if (!printed.contains('.')) printed += ".0";
  return (negative ? "-" : "") + printed;
}

/// What ast.literal_eval makes of a check's left side, printed.
std::optional<std::string> python_literal(std::string_view kind) {
  if (kind == "True" || kind == "False" || kind == "None") return std::string(kind);
  if (auto text = unquote(kind)) return text;
  return number(kind);
}

/// A name, or names with an operator between them: no literal for Python, and so looked for among the attributes.
bool is_attribute(std::string_view kind) {
  bool word = false;
  for (const char c : kind) {
    if (is_word(c)) {
      if (!word && is_digit(c)) return false;
      word = true;
    } else {
      if (!word || !std::string_view(".-/+*").contains(c)) return false;
      word = false;
    }
  }
  return word;
}

// The grammar, as oslo.policy has it: tokens are shifted, and what the last few of them make is reduced at once.
enum class Token : std::uint8_t { open, close, conjunction, disjunction, negation, string, check, all_of, any_of };

struct Item {
  Token token;
  CheckPtr check{};
};

class Parser {
 public:
  /// False if it nests too deeply.
  bool shift(Token token, CheckPtr check = {}) {
    items_.push_back({token, std::move(check)});
    while (reduce()) {
    }
    return !too_deep_;
  }

  CheckPtr result() {
    if (items_.size() != 1) return nullptr;
    // A lone string or operator is a rule that oslo.policy takes and then stumbles over.
    return items_[0].check ? std::move(items_[0].check) : make(Check::Kind::broken);
  }

 private:
  bool ends_with(std::initializer_list<Token> tokens) const {
    return items_.size() >= tokens.size() &&
           std::equal(tokens.begin(), tokens.end(), items_.end() - static_cast<std::ptrdiff_t>(tokens.size()),
                      [](Token token, const Item& item) { return token == item.token; });
  }
  CheckPtr take(std::size_t from_end) {
    return std::move((items_.end() - static_cast<std::ptrdiff_t>(from_end))->check);
  }
  bool replace(std::size_t count, Token token, CheckPtr check) {
    if (check->depth > max_depth) too_deep_ = true;
    items_.resize(items_.size() - count);
    items_.push_back({token, std::move(check)});
    return true;
  }

  bool reduce() {
    using enum Token;
    if (too_deep_) return false;
    for (const Token inner : {check, all_of, any_of}) {
      if (ends_with({open, inner, close})) return replace(3, check, take(2));
    }
    if (ends_with({check, conjunction, check})) {
      return replace(3, all_of, join(Check::Kind::all_of, take(3), take(1)));
    }
    if (ends_with({any_of, conjunction, check})) {  // "A or B and C"
      CheckPtr any = take(3);
      CheckPtr last = std::move(any->children.back());
      any->children.pop_back();
      if (last->kind == Check::Kind::all_of) {
        add(*last, take(1));
      } else {
        last = join(Check::Kind::all_of, std::move(last), take(1));
      }
      add(*any, std::move(last));
      return replace(3, any_of, std::move(any));
    }
    for (const Token grown : {all_of, any_of}) {
      if (ends_with({grown, grown == all_of ? conjunction : disjunction, check})) {
        CheckPtr list = take(3);
        add(*list, take(1));
        return replace(3, grown, std::move(list));
      }
    }
    if (ends_with({check, disjunction, check}) || ends_with({all_of, disjunction, check})) {
      return replace(3, any_of, join(Check::Kind::any_of, take(3), take(1)));
    }
    if (ends_with({negation, check})) return replace(2, check, join(Check::Kind::negation, take(1), nullptr));
    return false;
  }

  std::vector<Item> items_;
  bool too_deep_ = false;
};

bool shift_word(Parser& parser, std::string_view word, RuleComplaints& complaints) {
  while (word.starts_with('(')) {
    if (!parser.shift(Token::open)) return false;
    word.remove_prefix(1);
  }
  const auto end = word.find_last_not_of(')') + 1;  // 0 where there is nothing else
  const std::string_view clean = word.substr(0, end);
  const std::string lowered = base::to_lower(clean);
  bool good = true;
  if (lowered == "and" || lowered == "or") {
    good = parser.shift(lowered == "and" ? Token::conjunction : Token::disjunction);
  } else if (lowered == "not") {
    good = parser.shift(Token::negation);
  } else if (!clean.empty()) {
    // The closing parentheses count here, so that ('a':'b') is a check and 'a':'b' is not: oslo.policy's way.
    const bool quoted = word.size() >= 2 && (word[0] == '"' || word[0] == '\'') && word.back() == word[0];
    good = quoted ? parser.shift(Token::string) : parser.shift(Token::check, parse_check(clean, complaints));
  }
  for (std::size_t i = end; good && i < word.size(); ++i) good = parser.shift(Token::close);
  return good;
}

}  // namespace

CheckPtr parse_check(std::string_view text, RuleComplaints& complaints) {
  if (text == "!") return make(Check::Kind::never);
  if (text == "@") return make(Check::Kind::always);
  const auto colon = text.find(':');
  if (colon == std::string_view::npos) {
    complaints.warnings.push_back("'" + std::string(text) + "' is no check, it has no colon: it denies");
    return make(Check::Kind::never);
  }
  const std::string_view kind = text.substr(0, colon);
  const std::string_view match = text.substr(colon + 1);
  if (kind == "rule") return make(Check::Kind::rule, std::string(match));
  if (kind == "http" || kind == "https") complaints.asks_http = true;
  CheckPtr check;
  if (kind == "role") {
    check = make(Check::Kind::role);
  } else if (auto literal = python_literal(kind)) {
    check = make(Check::Kind::literal, *std::move(literal));
  } else if (is_attribute(kind)) {
    check = make(Check::Kind::attribute);
    check->path = base::split(kind, '.');
  } else {
    complaints.warnings.push_back("'" + std::string(text) + "': what stands before the colon is neither an attribute " +
                                  "nor a literal: a request that comes to it is denied");
    return make(Check::Kind::broken);
  }
  check->match = parse_pattern(match);
  if (check->match.malformed) {
    complaints.warnings.push_back("'" + std::string(text) + "': of Python's formats only %(name)s and %% are " +
                                  "understood: a request that comes to it is denied");
    return make(Check::Kind::broken);
  }
  return check;
}

CheckPtr parse_rule(std::string_view rule, RuleComplaints& complaints) {
  if (rule.empty()) return make(Check::Kind::always);
  Parser parser;
  bool good = true;
  for (std::size_t i = 0; good && i < rule.size();) {
    if (is_space(rule[i])) {
      ++i;
      continue;
    }
    auto end = i;
    while (end < rule.size() && !is_space(rule[end])) ++end;
    good = shift_word(parser, rule.substr(i, end - i), complaints);
    i = end;
  }
  CheckPtr check = good ? parser.result() : nullptr;
  if (!check) {
    complaints.warnings.push_back("'" + std::string(rule.substr(0, 200)) + "' cannot be understood" +
                                  (good ? "" : ", it nests too deeply") + ": it denies");
    return make(Check::Kind::never);
  }
  return check;
}

CheckPtr parse_list_rule(const std::vector<std::vector<std::string>>& rule, RuleComplaints& complaints) {
  if (rule.empty()) return make(Check::Kind::always);
  auto any = make(Check::Kind::any_of);
  for (const auto& inner : rule) {
    if (inner.empty()) continue;
    auto all = make(Check::Kind::all_of);
    for (const auto& check : inner) add(*all, parse_check(check, complaints));
    add(*any, std::move(all));
  }
  return any;  // of nothing: denies
}

}  // namespace imagecache::identity
