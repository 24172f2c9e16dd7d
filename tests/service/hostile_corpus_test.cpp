// Every image of tests/hostile/corpus.py: refused with its reason, and nothing of it stays; or accepted, where it does
// no harm. A qemu-img that keeps a record stands before the real one: it is never started on any of them.
#include <cstdlib>
#include <fstream>

#include "service/volumes.hpp"

namespace imagecache::test {
namespace {

std::string content_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

class HostileCorpus : public testing::Test {
 protected:
  HostileCorpus() {
    std::ofstream(scratch_ / "qemu-img") << "#!/bin/sh\necho \"$*\" >> '" << record().native()
                                         << "'\nPATH=${PATH#*:} exec qemu-img \"$@\"\n";
    std::filesystem::permissions(scratch_ / "qemu-img", std::filesystem::perms::owner_all);
    ::setenv("PATH", (scratch_.path().native() + ":" + std::getenv("PATH")).c_str(), 1);
    const std::string command =
        "python3 " IMAGECACHE_HOSTILE_CORPUS " '" + (scratch_ / "corpus").native() + "' > /dev/null";
    EXPECT_EQ(std::system(command.c_str()), 0);
  }

  std::filesystem::path record() const { return scratch_ / "record"; }
  json manifest() const { return json::parse(content_of(scratch_ / "corpus/manifest.json")); }
  std::string add(Daemon& daemon, const json& listed) const {
    return daemon.origin.add({.content = Content::of(content_of(scratch_ / "corpus" / listed["file"])),
                              .disk_format = listed["disk_format"],
                              .container_format = listed["container_format"]});
  }

  TempDir scratch_;
};

TEST_F(HostileCorpus, IsRefusedByReasonBeforeQemuImgOpensIt) {
  Daemon daemon;
  std::filesystem::remove(record());  // of the look at its version
  int refused = 0;
  for (const json& listed : manifest()) {
    const std::string name = listed["file"];
    SCOPED_TRACE(name);
    const auto image = add(daemon, listed);
    const std::string id = base::new_uuid();
    const auto answer = hook_create(daemon, id, image);
    if (listed.contains("accepted")) {
      EXPECT_EQ(answer.status, 200) << answer.body;
      EXPECT_EQ(hook(daemon, "DELETE", id).status, 204);
      for (const json& kept : image_volumes(daemon)) {
        EXPECT_EQ(daemon.status("DELETE", "/v1/image-volumes/" + kept["id"].get<std::string>()).status, 204);
      }
    } else {
      ++refused;
      EXPECT_EQ(answer.status, 400) << answer.body;
      const json error = parsed(answer)["error"];
      EXPECT_EQ(error["code"], "unacceptable_image") << answer.body;
      EXPECT_EQ(error["fallback"], false) << "Cinder would open it";
      EXPECT_NE(error.value("message", "").find(listed["reason"]), std::string::npos)
          << error["message"] << "\nwanted: " << listed["reason"];
    }
    EXPECT_EQ(daemon.volume_files(), 0U);
    expect_no_image_volume(daemon);
  }
  EXPECT_GT(refused, 90);
  EXPECT_FALSE(std::filesystem::exists(record())) << "qemu-img was started: " << content_of(record());
  EXPECT_TRUE(files_in(daemon.directory / "state/conversion").empty());
}

// The record would show it.
TEST_F(HostileCorpus, WhatIsGoodAndOfAnotherFormatDoesReachQemuImg) {
  Daemon daemon;
  std::filesystem::remove(record());
  const std::string good = by_qemu_img(sparse_disk(), "convert -f raw -O vmdk %r %o");
  const auto image = daemon.origin.add({.content = Content::of(good), .disk_format = "vmdk"});
  std::filesystem::remove(record());
  EXPECT_EQ(hook_create(daemon, base::new_uuid(), image).status, 200);
  EXPECT_NE(content_of(record()).find("driver=vmdk"), std::string::npos) << "the format is said, never guessed";
}

}  // namespace
}  // namespace imagecache::test
