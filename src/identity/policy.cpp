#include "identity/policy.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>

#include "base/text.hpp"
#include "base/try.hpp"
#include "identity/policy_file.hpp"
#include "identity/policy_rule.hpp"

namespace imagecache::identity {
namespace {

constexpr unsigned max_nesting = 1000;     // of checks under evaluation, over all rules that call each other
constexpr std::size_t max_steps = 100000;  // rules may multiply each other's work: "rule:a and rule:a", and so on down

struct Rule {
  CheckPtr check;
  bool project_scope_only = false;
  bool by_operator = false;
};
using Rules = std::map<std::string, Rule, std::less<>>;

enum class Verdict : std::uint8_t { no, yes, broken };

Verdict of(bool yes) {
  return yes ? Verdict::yes : Verdict::no;
}

/// One question to the rules.
class Evaluation {
 public:
  Evaluation(const Rules& rules, const std::string& default_rule, const base::RequestContext& who,
             const PolicyTarget& target)
      : rules_(rules), default_rule_(default_rule), who_(who), target_(target) {}

  const Rule* find(std::string_view name) const {
    auto found = rules_.find(name);
    if (found == rules_.end() && !default_rule_.empty()) found = rules_.find(default_rule_);
    return found == rules_.end() ? nullptr : &found->second;
  }

  Verdict ask(const Check& check) {
    if (nesting_ >= max_nesting || ++steps_ > max_steps) return Verdict::broken;  // a circle ends here
    ++nesting_;
    const Verdict verdict = answer(check);
    --nesting_;
    return verdict;
  }

 private:
  Verdict answer(const Check& check) {
    using enum Check::Kind;
    switch (check.kind) {
      case always:
        return Verdict::yes;
      case never:
        return Verdict::no;
      case broken:
        return Verdict::broken;
      case all_of:
        return first_that_is_not(Verdict::yes, check);
      case any_of:
        return first_that_is_not(Verdict::no, check);
      case negation: {
        const Verdict inner = ask(*check.children[0]);
        return inner == Verdict::broken ? inner : of(inner == Verdict::no);
      }
      case rule: {
        const Rule* named = find(check.text);
        return named ? ask(*named->check) : Verdict::no;
      }
      case role: {
        const auto wanted = fill(check.match);
        return of(wanted && std::ranges::any_of(who_.roles, [lower = base::to_lower(*wanted)](const std::string& role) {
                    return base::to_lower(role) == lower;
                  }));
      }
      case literal: {
        const auto wanted = fill(check.match);
        return of(wanted && *wanted == check.text);
      }
      case attribute: {
        const auto wanted = fill(check.match);
        return wanted ? compare_attribute(check.path, *wanted) : Verdict::no;
      }
    }
    return Verdict::broken;
  }

  Verdict first_that_is_not(Verdict going_on, const Check& check) {
    for (const auto& child : check.children) {
      if (const Verdict verdict = ask(*child); verdict != going_on) return verdict;
    }
    return going_on;
  }

  std::optional<std::string> fill(const Pattern& pattern) const {
    std::string text;
    for (const auto& piece : pattern.pieces) {
      if (!piece.is_key) {
        text += piece.text;
      } else if (const auto found = target_.find(piece.text); found != target_.end()) {
        text += found->second;
      } else {
        return std::nullopt;
      }
    }
    return text;
  }

  Verdict compare_attribute(const std::vector<std::string>& path, const std::string& wanted) const {
    const std::string& name = path[0];
    if (name == "roles" || name == "service_roles") {
      if (name == "service_roles" || who_.roles.empty()) return Verdict::no;
      return path.size() > 1 ? Verdict::broken : of(std::ranges::find(who_.roles, wanted) != who_.roles.end());
    }
    const auto value = attribute(name);
    if (!value) return Verdict::no;
    return path.size() > 1 ? Verdict::broken : of(*value == wanted);
  }

  /// As Python prints it; nullopt where a context has no such attribute at all.
  std::optional<std::string> attribute(std::string_view name) const {
    const auto or_none = [](const std::string& value) { return value.empty() ? std::string("None") : value; };
    if (name == "user_id" || name == "user") return or_none(who_.user_id);
    if (name == "project_id" || name == "tenant") return or_none(who_.project_id);
    if (name == "user_domain_id") return or_none(who_.user_domain_id);
    if (name == "project_domain_id") return or_none(who_.project_domain_id);
    if (name == "system_scope") return or_none(who_.system_scope);
    if (name == "system" && !who_.system_scope.empty()) return who_.system_scope;
    if (name == "is_admin") return who_.is_admin ? "True" : "False";
    if (name == "is_admin_project") return "True";
    static constexpr std::array always_none = {"domain_id", "service_user_id", "service_user_domain_id",
                                               "service_project_id", "service_project_domain_id"};
    if (std::ranges::find(always_none, name) != always_none.end()) return "None";
    return std::nullopt;
  }

  const Rules& rules_;
  const std::string& default_rule_;
  const base::RequestContext& who_;
  const PolicyTarget& target_;
  unsigned nesting_ = 0;
  std::size_t steps_ = 0;
};

/// The names of the rules that a check calls.
void collect_calls(const Check& check, std::set<std::string>& names) {
  if (check.kind == Check::Kind::rule) names.insert(check.text);
  for (const auto& child : check.children) collect_calls(*child, names);
}

}  // namespace

struct Policy::Impl {
  PolicyOptions options;
  Rules rules{};
  std::vector<std::string> warnings{};

  Result<void> add(const std::vector<NamedRule>& named) {
    for (const auto& [name, rule, where] : named) {
      RuleComplaints complaints;
      CheckPtr check;
      if (const auto* text = std::get_if<std::string>(&rule)) {
        check = parse_rule(*text, complaints);
      } else if (const auto* list = std::get_if<std::vector<std::vector<std::string>>>(&rule)) {
        check = parse_list_rule(*list, complaints);
      } else {
        check = parse_rule("", complaints);
        complaints.warnings.emplace_back("it has no value, which allows everybody");
      }
      if (complaints.asks_http) {
        return fail(Errc::invalid_argument, where + ": rule '" + name + "': http: and https: checks are not served; " +
                                                "write the rule without");
      }
      for (const auto& warning : complaints.warnings) warnings.push_back(where + ": rule '" + name + "': " + warning);
      rules[name] = {.check = std::move(check), .by_operator = true};
    }
    return {};
  }

  void add_defaults(std::span<const PolicyDefault> defaults) {
    for (const auto& [name, text, project_scope_only] : defaults) {
      RuleComplaints complaints;
      auto [place, fresh] = rules.try_emplace(std::string(name));
      if (fresh) place->second.check = parse_rule(text, complaints);
      place->second.project_scope_only = project_scope_only;
      for (const auto& warning : complaints.warnings)
        warnings.push_back("the default of '" + std::string(name) + "': " + warning);
    }
  }

  /// As oslo.policy does once it has read everything.
  void look_for_mistakes() {
    std::map<std::string, std::set<std::string>> calls;
    for (const auto& [name, rule] : rules) collect_calls(*rule.check, calls[name]);
    std::vector<std::string> undefined;
    for (const auto& [name, called] : calls) {
      if (!std::ranges::all_of(called, [&](const auto& other) { return rules.contains(other); }))
        undefined.push_back(name);
    }
    if (!undefined.empty())
      warnings.push_back(fmt::format("rules {} call a rule that is not defined", fmt::join(undefined, ", ")));
    // What calls nothing that is left cannot be in a circle: take it away, and then look at those who called it.
    std::map<std::string, std::vector<std::string>> callers;
    std::vector<std::string> harmless;
    for (auto& [name, called] : calls) {
      std::erase_if(called, [&](const auto& other) { return !rules.contains(other); });
      for (const auto& other : called) callers[other].push_back(name);
      if (called.empty()) harmless.push_back(name);
    }
    while (!harmless.empty()) {
      const std::string gone = std::move(harmless.back());
      harmless.pop_back();
      calls.erase(gone);
      for (const auto& caller : callers[gone]) {
        if (auto& called = calls[caller]; called.erase(gone) > 0 && called.empty()) harmless.push_back(caller);
      }
    }
    std::vector<std::string> circular;
    circular.reserve(calls.size());
    for (const auto& [name, called] : calls) circular.push_back(name);
    if (!circular.empty()) {
      warnings.push_back(fmt::format("rules {} call each other in a circle: a request that goes round it is denied",
                                     fmt::join(circular, ", ")));
    }
  }
};

Policy::Policy(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Policy::Policy(Policy&&) noexcept = default;
Policy& Policy::operator=(Policy&&) noexcept = default;
Policy::~Policy() = default;

Result<Policy> Policy::parse(std::string_view content, const std::string& name, const PolicyOptions& options,
                             std::span<const PolicyDefault> defaults) {
  auto impl = std::make_unique<Impl>(options);
  IMAGECACHE_TRY(const auto rules, parse_policy_file(content, name));
  IMAGECACHE_CHECK(impl->add(rules));
  impl->add_defaults(defaults);
  impl->look_for_mistakes();
  return Policy(std::move(impl));
}

Result<Policy> Policy::load(const PolicyOptions& options, std::span<const PolicyDefault> defaults) {
  auto impl = std::make_unique<Impl>(options);
  if (!options.policy_file.empty()) {
    std::filesystem::path path = options.policy_file;
    IMAGECACHE_TRY(auto rules, read_policy_file(path, options.max_file_bytes));
    if (!rules && options.policy_file_must_exist) {
      return fail(Errc::invalid_argument, options.policy_file + ": there is no such policy file; write it, or take " +
                                              "[oslo_policy] policy_file out to have the defaults");
    }
    if (!rules && path.extension() == ".yaml") {
      path.replace_extension(".json");
      IMAGECACHE_TRY(rules, read_policy_file(path, options.max_file_bytes));
      if (rules) impl->warnings.push_back(path.native() + ": read, as there is no " + options.policy_file);
    }
    if (rules) IMAGECACHE_CHECK(impl->add(*rules));
  }
  for (const auto& directory : options.policy_dirs) {
    IMAGECACHE_TRY(const auto files, list_policy_directory(directory));
    for (const auto& file : files) {
      IMAGECACHE_TRY(const auto rules, read_policy_file(file, options.max_file_bytes));
      if (rules) IMAGECACHE_CHECK(impl->add(*rules));
    }
  }
  impl->add_defaults(defaults);
  impl->look_for_mistakes();
  return Policy(std::move(impl));
}

bool Policy::allows(std::string_view rule, const base::RequestContext& who, const PolicyTarget& target) const {
  Evaluation evaluation(impl_->rules, impl_->options.policy_default_rule, who, target);
  const Rule* named = evaluation.find(rule);
  if (!named) return false;
  const auto own = impl_->rules.find(rule);
  if (impl_->options.enforce_scope && own != impl_->rules.end() && own->second.project_scope_only &&
      !who.system_scope.empty()) {
    return false;
  }
  return evaluation.ask(*named->check) == Verdict::yes;
}

bool Policy::set_by_operator(std::string_view rule) const {
  const auto found = impl_->rules.find(rule);
  return found != impl_->rules.end() && found->second.by_operator;
}

const std::vector<std::string>& Policy::warnings() const {
  return impl_->warnings;
}

std::span<const PolicyDefault> image_cache_policies(bool enforce_new_defaults) {
  static constexpr std::string_view admin = "role:admin";
  static constexpr std::string_view old = "role:admin or rule:manage_image_cache";
  static constexpr auto list = [](std::string_view yoga) {
    return std::array<PolicyDefault, 8>{{{"cache_list", yoga, true},
                                         {"cache_image", yoga, true},
                                         {"cache_delete", yoga, true},
                                         {"cache_clean", admin, true},
                                         {"cache_prune", admin, true},
                                         {"list_cached_nodes", admin, true},
                                         {"manage_image_cache", admin, true},
                                         {"context_is_admin", admin, false}}};
  };
  static constexpr auto new_defaults = list(admin);
  static constexpr auto old_defaults = list(old);
  return enforce_new_defaults ? std::span<const PolicyDefault>(new_defaults) : old_defaults;
}

}  // namespace imagecache::identity
