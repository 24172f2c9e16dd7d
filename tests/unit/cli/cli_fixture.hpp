// Runs the command line as a process would, with its output in strings.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "cli/cli.hpp"

namespace imagecache::cli {

class CliTest : public ::testing::Test {
 protected:
  CliTest() {
    auto name = (std::filesystem::temp_directory_path() / "cli-test-XXXXXX").native();
    directory_ = ::mkdtemp(name.data());
  }
  ~CliTest() override { std::filesystem::remove_all(directory_); }

  int run(const std::vector<std::string>& arguments) {
    out_.str("");
    err_.str("");
    const Surroundings surroundings{.out = out_,
                                    .err = err_,
                                    .err_is_terminal = terminal_,
                                    .environment = environment_,
                                    .poll_interval = std::chrono::milliseconds(1),
                                    .default_config = directory_ / "default.conf"};
    const auto serve = [this](const config::LoadRequest& request) {
      served_.push_back(request);
      return 7;
    };
    const Program program{.serve = serve, .offline = offline_, .login = login_, .project_of = project_of_};
    return cli::run(arguments, program, surroundings);
  }

  std::string write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((directory_ / name).parent_path());
    std::ofstream(directory_ / name) << text;
    return (directory_ / name).native();
  }
  std::string out() const { return out_.str(); }
  std::string err() const { return err_.str(); }
  nlohmann::json json() const { return nlohmann::json::parse(out_.str(), nullptr, false); }

  std::filesystem::path directory_;
  std::map<std::string, std::string> environment_;
  bool terminal_ = false;
  OfflineFunction offline_;
  LoginFunction login_;
  ProjectFunction project_of_;
  std::vector<config::LoadRequest> served_;

 private:
  std::ostringstream out_;
  std::ostringstream err_;
};

}  // namespace imagecache::cli
