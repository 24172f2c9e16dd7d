#include "identity/policy_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <sstream>

#include "base/fd.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::identity {
namespace {

// A comment behind the content: if a quote was left open, as in a file that was cut short, it ends up in a value.
constexpr std::string_view sentinel = "end of the policy file, which a closed quote hides";

/// Hears where documents begin and nothing else.
class DocumentStarts final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& mark) override { line = mark.line + 1; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}

  int line = 0;
};

/// Load() stops without a word at what it does not understand behind a document, and LoadAll() finds one more there for
/// ever.
std::optional<int> line_of_second_document(const std::string& text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  DocumentStarts starts;
  if (!parser.HandleNextDocument(starts) || !parser.HandleNextDocument(starts)) return std::nullopt;
  return starts.line;
}

class Reader {
 public:
  Reader(std::string_view content, const std::string& name) : name_(name), lines_(base::split(content, '\n')) {}

  Result<std::vector<NamedRule>> read(const YAML::Node& root) const {
    std::vector<NamedRule> rules;
    if (!root || root.IsNull()) return rules;
    if (!root.IsMap()) return wrong(root, "a policy file is a mapping of names to rules");
    for (const auto& entry : root) {
      IMAGECACHE_TRY(auto key, text(entry.first, "a rule's name"));
      if (key == "<<") return wrong(entry.first, "merge keys are not understood: write the rules out");
      NamedRule rule{.name = std::move(key), .rule = {}, .where = where(entry.first)};
      const YAML::Node& value = entry.second;
      if (value.IsSequence()) {
        IMAGECACHE_TRY(rule.rule, list(value));
      } else if (!value.IsNull()) {
        IMAGECACHE_TRY(rule.rule, text(value, "rule '" + rule.name + "'"));
      }
      rules.push_back(std::move(rule));
    }
    return rules;
  }

 private:
  Result<std::vector<std::vector<std::string>>> list(const YAML::Node& node) const {
    std::vector<std::vector<std::string>> rule;
    for (const auto& inner : node) {
      auto& checks = rule.emplace_back();
      if (inner.IsSequence()) {
        for (const auto& check : inner) {
          IMAGECACHE_TRY(checks.emplace_back(), text(check, "a check in a list"));
        }
      } else {
        IMAGECACHE_TRY(auto check, text(inner, "a check in a list"));
        if (check.empty()) {
          rule.pop_back();  // oslo.policy skips it
        } else {
          checks.push_back(std::move(check));
        }
      }
    }
    return rule;
  }

  /// A string, or what YAML 1.1 would take for one.
  Result<std::string> text(const YAML::Node& node, const std::string& what) const {
    if (!node.IsScalar()) return wrong(node, what + " is neither a string nor a list of lists");
    std::string value = node.Scalar();
    const std::string& tag = node.Tag();
    if (value.contains(sentinel)) return wrong(node, what + ": its quote is not closed, is the file cut short?");
    if (tag == "!" && value.empty() && source_at(node) == '!') {
      return wrong(node,
                   what + ": write \"!\" in quotes; without them YAML takes it away, and the rule allows everybody");
    }
    if (!tag.empty() && tag != "!" && tag != "?" && tag != "tag:yaml.org,2002:str") {
      return wrong(node, what + ": the tag " + tag + " is not understood");
    }
    if (tag == "?" && !is_plain_string(value)) {
      return wrong(node, what + " is " + value + ", which YAML does not take for a string: write it in quotes");
    }
    return value;
  }

  static bool is_plain_string(const std::string& value) {
    const std::string lower = base::to_lower(value);
    static constexpr std::array words = {"true", "false", "yes", "no", "on", "off"};
    if (std::ranges::find(words, lower) != words.end()) return false;
    return !std::ranges::all_of(value,
                                [](char c) { return (c >= '0' && c <= '9') || std::string_view("+-._").contains(c); });
  }

  char source_at(const YAML::Node& node) const {
    const auto mark = node.Mark();
    if (mark.line < 0 || static_cast<std::size_t>(mark.line) >= lines_.size()) return 0;
    const auto& line = lines_[static_cast<std::size_t>(mark.line)];
    return mark.column < 0 || static_cast<std::size_t>(mark.column) >= line.size()
               ? '\0'
               : line[static_cast<std::size_t>(mark.column)];
  }
  std::string where(const YAML::Node& node) const { return fmt::format("{}:{}", name_, node.Mark().line + 1); }
  std::unexpected<Error> wrong(const YAML::Node& node, const std::string& why) const {
    return fail(Errc::invalid_argument, where(node) + ": " + why);
  }

  const std::string& name_;
  const std::vector<std::string> lines_;
};

}  // namespace

Result<std::vector<NamedRule>> parse_policy_file(std::string_view content, const std::string& name) {
  std::string text(content);
  if (text.contains('\0'))
    return fail(Errc::invalid_argument, name + ":1: has a zero byte in it, so is no policy file");
  // JSON is YAML but for the tabs between its words; inside a string it has none.
  if (nlohmann::json::accept(text)) std::ranges::replace(text, '\t', ' ');
  text.append("\n# ").append(sentinel).append("\n");
  try {
    if (const auto line = line_of_second_document(text)) {
      return fail(Errc::invalid_argument,
                  fmt::format("{}:{}: a second document, or no YAML: a policy file is one document", name, *line));
    }
    return Reader(text, name).read(YAML::Load(text));
  } catch (const YAML::Exception& e) {
    return fail(Errc::invalid_argument, fmt::format("{}:{}: {}", name, e.mark.line + 1, e.msg));
  } catch (const std::exception& e) {
    return fail(Errc::invalid_argument, fmt::format("{}:1: {}", name, e.what()));
  }
}

Result<std::optional<std::vector<NamedRule>>> read_policy_file(const std::filesystem::path& path,
                                                               std::size_t max_bytes) {
  auto fd = base::open_file(path, O_RDONLY | O_NONBLOCK);  // of a FIFO nobody should wait for a writer
  if (!fd) {
    if (fd.error().code == Errc::not_found) return std::nullopt;
    return std::unexpected(std::move(fd).error());
  }
  IMAGECACHE_TRY(const auto stat, base::stat_fd(fd->get(), path.native()));
  if (!S_ISREG(stat.st_mode)) return fail(Errc::invalid_argument, path.native() + ": is not a file");
  std::string content(max_bytes + 1, '\0');
  IMAGECACHE_TRY(const auto size,
                 base::read_at(fd->get(), std::as_writable_bytes(std::span(content)), 0, path.native()));
  if (size > max_bytes) {
    return fail(Errc::invalid_argument, fmt::format("{}: is larger than {} bytes", path.native(), max_bytes));
  }
  content.resize(size);
  IMAGECACHE_TRY(auto rules, parse_policy_file(content, path.native()));
  return rules;
}

Result<std::vector<std::filesystem::path>> list_policy_directory(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  std::filesystem::directory_iterator entries(directory, error);
  if (error == std::errc::no_such_file_or_directory) return files;
  for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error)) {
    if (entries->path().filename().native().starts_with('.')) continue;
    std::error_code ignored;
    if (!entries->is_directory(ignored)) files.push_back(entries->path());
  }
  if (error) return fail(Errc::invalid_argument, directory.native() + ": cannot be listed: " + error.message());
  std::ranges::sort(files);
  return files;
}

}  // namespace imagecache::identity
