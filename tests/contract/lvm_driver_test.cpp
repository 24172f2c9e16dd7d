// What the lvm driver promises beyond the contract, as far as it takes no LVM: options, LVM's reports, and how commands
// are run, with a root helper that stands in for them.
#include "backends/lvm/lvm_driver.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "contract/rig.hpp"
#include "support/temp_dir.hpp"

namespace imagecache::test {
namespace {

using backends::VolumeGroup;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using namespace std::chrono_literals;

Result<std::unique_ptr<Driver>> driver_of(std::map<std::string, std::string, std::less<>> options) {
  return backends::make_lvm_driver(MapOptions(std::move(options)));
}

TEST(LvmOptions, CindersSectionIsServedAsItStands) {
  for (const char* name :
       {"lvm", "cinder.volume.drivers.lvm.LVMVolumeDriver", "cinder_image_cache.lvm.LVMVolumeDriver"}) {
    ASSERT_NE(backends::find_driver(name), nullptr) << name;
    const auto made = backends::find_driver(name)(MapOptions({}));
    ASSERT_TRUE(made) << made.error().message;
    EXPECT_EQ((*made)->capabilities().clone, CloneSupport::copy_on_write);
  }
  EXPECT_EQ((*driver_of({{"lvm_type", "default"}}))->capabilities().clone, CloneSupport::full_copy);
  EXPECT_EQ((*driver_of({{"lvm_type", "thin"}}))->capabilities().clone, CloneSupport::copy_on_write);
}

TEST(LvmOptions, ValuesThatCannotBeAreRefusedByName) {
  for (const auto& [name, value] :
       {std::pair{"volume_group", "-rf"}, std::pair{"volume_group", "a/b"}, std::pair{"volume_group", ".."},
        std::pair{"lvm_type", "thick"}, std::pair{"volume_clear", "shred"}, std::pair{"volume_clear_size", "-1"},
        std::pair{"lvm_command_timeout", "0"}, std::pair{"lvm_max_concurrency", "many"},
        std::pair{"volume_name_template", "volume"}}) {
    const auto made = driver_of({{name, value}});
    ASSERT_FALSE(made) << name << " = " << value;
    EXPECT_EQ(made.error().code, Errc::invalid_argument);
    EXPECT_THAT(made.error().message, HasSubstr("[contract] " + std::string(name) + " = " + value));
  }
}

TEST(LvmOptions, ASectionWithMirrorsIsCinders) {
  const auto made = driver_of({{"lvm_mirrors", "1"}});
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, Errc::unsupported);
  EXPECT_THAT(made.error().message, HasSubstr("lvm_mirrors = 1"));
}

// As LVM 2.03.16 writes it.
constexpr std::string_view lvs_answer = R"(
  {
      "report": [
          {
              "lv": [
                  {"lv_name":"vg-pool", "lv_size":"8153726976", "lv_attr":"twi-aotz--", "pool_lv":"", "data_percent":"12.50", "lv_tags":""},
                  {"lv_name":"volume-a", "lv_size":"1073741824", "lv_attr":"Vwi-a-tz--", "pool_lv":"vg-pool", "data_percent":"0.00", "lv_tags":"one,cinder-image-cache.zero-from.512"},
                  {"lv_name":"root", "lv_size":"4194304", "lv_attr":"owi-aos---", "pool_lv":"", "data_percent":"", "lv_tags":""},
                  {"lv_name":"_snapshot-b", "lv_size":"4194304", "lv_attr":"swi-a-s---", "pool_lv":"", "data_percent":"0.01", "lv_tags":""}
              ]
          }
      ]
  }
)";

TEST(LvmReports, VolumesAreReadAsLvsWritesThem) {
  const auto volumes = backends::parse_lvs(lvs_answer);
  ASSERT_TRUE(volumes) << volumes.error().message;
  ASSERT_EQ(volumes->size(), 4U);
  const auto& pool = volumes->at(0);
  EXPECT_TRUE(pool.is_thin_pool() && pool.pool_zeroes() && !pool.is_thin());
  EXPECT_EQ(pool.size_bytes, 8153726976U);
  EXPECT_DOUBLE_EQ(pool.data_percent, 12.5);
  EXPECT_FALSE(pool.pool_is_full());
  EXPECT_TRUE(volumes->at(1).is_thin());
  EXPECT_THAT(volumes->at(1).tags, ElementsAre("one", "cinder-image-cache.zero-from.512"));
  EXPECT_TRUE(volumes->at(2).is_origin() && !volumes->at(2).is_thin());
  EXPECT_TRUE(volumes->at(3).is_snapshot());
  EXPECT_TRUE(backends::parse_lvs(R"({"report":[{"lv":[]}]})")->empty());
}

TEST(LvmReports, WhatIsNoReportIsSaidToBeNone) {
  for (const std::string_view text :
       {"", "nonsense", "[]", "{}", R"({"report":[]})", R"({"report":[7]})", R"({"report":[{"vg":[]}]})",
        R"({"report":[{"lv":[7]}]})", R"({"report":[{"lv":[{"lv_name":"a","lv_attr":"V","lv_size":"1g"}]}]})",
        R"({"report":[{"lv":[{"lv_name":"a","lv_attr":"V","lv_size":-1}]}]})",
        R"({"report":[{"lv":[{"lv_size":"1"}]}]})"}) {
    const auto volumes = backends::parse_lvs(text);
    ASSERT_FALSE(volumes) << text;
    EXPECT_EQ(volumes.error().code, Errc::internal);
  }
  EXPECT_FALSE(backends::parse_vgs(R"({"report":[{"vg":[]}]})"));
  const auto space = backends::parse_vgs(
      R"({"report":[{"vg":[{"vg_name":"vg","vg_size":"8585740288","vg_free":"4194304","vg_extent_size":"4194304"}]}]})");
  ASSERT_TRUE(space) << space.error().message;
  EXPECT_EQ(space->size_bytes, 8585740288U);
  EXPECT_EQ(space->extent_bytes, 4194304U);
}

TEST(LvmReports, TheKindOfAFailureIsInItsWords) {
  using backends::errc_of_lvm;
  EXPECT_EQ(errc_of_lvm("  Logical Volume \"a\" already exists in volume group \"vg\""), Errc::already_exists);
  EXPECT_EQ(errc_of_lvm("  Failed to find logical volume \"vg/a\""), Errc::not_found);
  EXPECT_EQ(errc_of_lvm("  Snapshot origin LV a not found in Volume group vg."), Errc::not_found);
  // Its disks may come back, with all that is on them.
  EXPECT_EQ(errc_of_lvm("  Volume group \"vg\" not found\n  Cannot process volume group vg"), Errc::unavailable);
  EXPECT_EQ(errc_of_lvm("modprobe: FATAL: Module dm-thin-pool not found in directory /lib/modules/6"), Errc::internal);
  EXPECT_EQ(errc_of_lvm("  Volume group \"vg\" has insufficient free space (1 extents): 2 required."), Errc::no_space);
  EXPECT_EQ(errc_of_lvm("  Cannot create new thin volume, free space in thin pool vg/p reached threshold."),
            Errc::no_space);
  EXPECT_EQ(errc_of_lvm("  VG vg metadata on /dev/vda (524800 bytes) too large for circular buffer (1048064 bytes with "
                        "524288 used)\n  Failed to write VG vg."),
            Errc::no_space);
  EXPECT_EQ(errc_of_lvm("  Logical volume vg/a in use."), Errc::conflict);
  EXPECT_EQ(errc_of_lvm("  /run/lock/lvm/V_vg:aux: open failed: Permission denied"), Errc::forbidden);
  EXPECT_EQ(errc_of_lvm(""), Errc::internal);
}

TEST(LvmReports, AFailureIsNotInTheWarningsBeforeIt) {
  using backends::errc_of_lvm;
  const std::string exists = "  Logical Volume \"a\" already exists in volume group \"vg\"\n";
  const std::string warnings =
      "  WARNING: Device for PV x not found or rejected by a filter: not found in volume group.\n"
      "  Devices file sys_wwid x PVID y last seen on /dev/sdb not found in volume group.\n";
  EXPECT_EQ(errc_of_lvm(warnings + exists), Errc::already_exists);
  EXPECT_EQ(errc_of_lvm(warnings), Errc::internal);
  EXPECT_EQ(errc_of_lvm("  Failed to find logical volume \"vg/b\"\n" + exists), Errc::already_exists);
}

TEST(LvmReports, AMessageIsOneLineWithoutTheWarnings) {
  EXPECT_EQ(backends::one_line("  WARNING: about thin pools\n  It \033failed.\n\n  Twice.\n"), "It ?failed.; Twice.");
  EXPECT_EQ(backends::one_line("  Devices file PVID x not found.\n  It failed.\n"), "It failed.");
  EXPECT_EQ(backends::one_line("  WARNING: only this\n"), "WARNING: only this");
  EXPECT_EQ(backends::one_line("\n"), "it failed without a word");
  EXPECT_LT(backends::one_line(std::string(1 << 20, 'x')).size(), 1000U);
}

constexpr std::string_view one_volume =
    R"({"report":[{"lv":[{"lv_name":"volume-a","lv_size":"512","lv_attr":"-wi-a-----"}]}]})";
constexpr std::string_view one_pool =
    R"({"report":[{"lv":[{"lv_name":"volume-pool","lv_size":"512","lv_attr":"twi-aotz--"}]}]})";

/// A root helper that does what the test writes: $@ is the command, $DIR a directory of the test.
class LvmCommands : public testing::Test {
 protected:
  VolumeGroup group(const std::string& script, std::chrono::seconds timeout = 20s,
                    std::chrono::milliseconds grace = 10s) {
    std::ofstream(directory_ / "helper") << "#!/bin/bash\nDIR=" << directory_.path().native()
                                         << "\necho \"$@\" >>$DIR/asked\n"
                                         << script << "\n";
    fs::permissions(directory_ / "helper", fs::perms::owner_all);
    return VolumeGroup({.name = "vg",
                        .system_dir = "/etc/cinder",
                        .root_helper = {(directory_ / "helper").native(), "as-root"},
                        .timeout = timeout,
                        .end_grace = grace});
  }
  /// A driver whose commands all are `script`.
  std::unique_ptr<Driver> driver(const std::string& script) {
    group(script);
    return std::move(*driver_of({{"volume_group", "vg"}, {"lvm_root_helper", (directory_ / "helper").native()}}));
  }
  std::vector<std::string> asked() {
    const auto text = base::read_small_file(directory_ / "asked");
    auto lines = base::split(text.value_or(""), '\n');
    std::erase(lines, "");
    return lines;
  }
  TempDir directory_;
};

TEST_F(LvmCommands, AreThoseThatCindersRootwrapLets) {
  auto vg = group("echo '" + std::string(lvs_answer) + "'");
  ASSERT_TRUE(vg.list());
  ASSERT_TRUE(vg.create_thin("volume-a", 1 << 20));
  ASSERT_TRUE(vg.clone_thin("volume-a", "volume-b"));
  ASSERT_TRUE(vg.activate("volume-b"));
  EXPECT_THAT(
      asked(),
      ElementsAre(
          "as-root env LC_ALL=C LVM_SYSTEM_DIR=/etc/cinder lvs --reportformat json --units b --nosuffix -o " +
              std::string(backends::lvs_columns) + " vg",
          "as-root env LC_ALL=C LVM_SYSTEM_DIR=/etc/cinder lvcreate --yes -T -V 1048576b -n volume-a vg/vg-pool",
          "as-root env LC_ALL=C LVM_SYSTEM_DIR=/etc/cinder lvcreate --yes -k n -a y --name volume-b "
          "--snapshot vg/volume-a",
          "as-root lvchange -a y --yes -K vg/volume-b"));
}

TEST_F(LvmCommands, InheritNothingButTheirPath) {
  ASSERT_EQ(::setenv("LVM_TEST_SECRET", "hidden", 1), 0);
  const base::Fd open_here(::open("/dev/null", O_RDONLY));  // NOLINT: without O_CLOEXEC on purpose
  auto vg = group("env >$DIR/seen; ls -l /proc/self/fd | tail -n +2 | wc -l >>$DIR/seen; cat >>$DIR/seen");
  ASSERT_TRUE(vg.activate("volume-a"));
  const auto seen = base::read_small_file(directory_ / "seen");
  ASSERT_TRUE(seen);
  EXPECT_THAT(*seen, HasSubstr("LC_ALL=C\n"));
  EXPECT_THAT(*seen, HasSubstr("PATH=/usr/sbin:"));
  EXPECT_THAT(*seen, Not(HasSubstr("hidden")));
  EXPECT_THAT(*seen, EndsWith("\n4\n")) << "0, 1, 2 and the directory that ls looks at";
}

TEST_F(LvmCommands, SayWhatWentWrong) {
  auto vg = group("echo '  WARNING: never mind' >&2; echo '  Logical volume vg/volume-a in use.' >&2; exit 5");
  const auto failed = vg.activate("volume-a");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, Errc::conflict);
  EXPECT_EQ(failed.error().message, "lvchange: Logical volume vg/volume-a in use.");
}

TEST_F(LvmCommands, AReportThatIsNoneIsAFailure) {
  auto vg = group("echo Segmentation fault");
  const auto listed = vg.list();
  ASSERT_FALSE(listed);
  EXPECT_EQ(listed.error().code, Errc::internal);
}

TEST_F(LvmCommands, OfAThousandVolumesAreReadToTheEnd) {
  auto vg = group(R"(echo '{"report":[{"lv":['
    for i in $(seq 1000); do echo '{"lv_name":"volume-'$i'","lv_size":"512","lv_attr":"Vwi-a-tz--","pool_lv":"vg-pool",
    "data_percent":"0.00","lv_tags":"some-tag-that-makes-it-longer"},'; done
    echo '{"lv_name":"last","lv_size":"512","lv_attr":"-wi-a-----"}]}]}')");
  const auto listed = vg.list();
  ASSERT_TRUE(listed) << listed.error().message;
  EXPECT_EQ(listed->size(), 1001U);
  EXPECT_EQ(listed->back().name, "last");
}

TEST_F(LvmCommands, OneThatTakesTooLongIsAskedToEndAndNotTornAway) {
  // As LVM does, it puts off the signal until what it is at is done.
  auto vg = group("trap 'echo ended >$DIR/end; exit 5' TERM; while :; do sleep 0.05; done", 3s);
  const auto failed = vg.activate("volume-a");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, Errc::timeout);
  EXPECT_THAT(failed.error().message, HasSubstr("took too long"));
  EXPECT_EQ(base::read_small_file(directory_ / "end").value_or(""), "ended\n");
}

TEST_F(LvmCommands, NeverRunBesideEachOther) {
  auto vg = group("mkdir $DIR/here || echo beside >>$DIR/beside; sleep 0.02; rmdir $DIR/here");
  {
    std::vector<std::jthread> threads;
    threads.reserve(8);
    for (int i = 0; i < 8; ++i) threads.emplace_back([&] { EXPECT_TRUE(vg.activate("volume-a")); });
  }
  EXPECT_EQ(asked().size(), 8U);
  EXPECT_FALSE(fs::exists(directory_ / "beside"));
}

TEST_F(LvmCommands, ARemovalThatFailsIsTriedOnceMoreWithoutWhatIsSuspended) {
  auto vg =
      group("[ -e $DIR/second ] && exit 0; touch $DIR/second; echo '  Logical volume vg/volume-a in use.' >&2; exit 5");
  ASSERT_TRUE(vg.remove("volume-a"));
  ASSERT_EQ(asked().size(), 2U);
  EXPECT_THAT(asked()[0], Not(HasSubstr("ignore_suspended_devices")));
  EXPECT_THAT(asked()[1], HasSubstr("ignore_suspended_devices = 1"));
}

TEST_F(LvmCommands, RemovingWhatIsNotThereIsASuccess) {
  auto vg = group("echo '  Failed to find logical volume \"vg/volume-a\"' >&2; exit 5");
  EXPECT_TRUE(vg.remove("volume-a"));
  EXPECT_EQ(asked().size(), 2U) << "that it is not there is asked of lvs too";
}

TEST_F(LvmCommands, WhatOnlyLvremoveDoesNotFindIsNotTakenForRemoved) {
  auto vg = group("[[ $* == *lvremove* ]] || { echo '" + std::string(one_volume) + "'; exit 0; }\n" +
                  "echo '  Failed to find logical volume \"vg/volume-a\"' >&2; exit 5");
  EXPECT_FALSE(vg.remove("volume-a"));
}

TEST_F(LvmCommands, AGroupWhoseDisksAreAwayDoesNotMakeItsVolumesDeletedOnes) {
  const auto away =
      driver("echo '  Volume group \"vg\" not found' >&2; echo '  Cannot process volume group vg' >&2; exit 5");
  const auto deleted = away->delete_volume({"volume-a"});
  ASSERT_FALSE(deleted);
  EXPECT_EQ(deleted.error().code, Errc::unavailable);
  const auto cloned = away->create_cloned_volume({.source = {"volume-a"}, .target = {"volume-b"}, .size_bytes = 512});
  ASSERT_FALSE(cloned);
  EXPECT_EQ(cloned.error().code, Errc::unavailable) << "not_found would have the source evicted";
  const auto ready = away->check_for_setup_error();
  ASSERT_FALSE(ready);
  EXPECT_EQ(ready.error().code, Errc::not_found);
  EXPECT_THAT(ready.error().message, HasSubstr("vgcreate makes one"));
}

TEST_F(LvmCommands, WhatIsNoVolumeIsNeverTouched) {
  const auto ours = driver("[[ $* == *lvs* ]] || exit 0; echo '" + std::string(one_pool) + "'");
  for (const char* name : {"vg-pool", "root", "_snapshot-a", "volume-", "volume-a/b"}) {
    for (const Result<void>& asked_for :
         {ours->delete_volume({name}), ours->extend_volume({name}, 1 << 20), ours->create_volume({name}, 512),
          ours->create_cloned_volume({.source = {"volume-a"}, .target = {name}, .size_bytes = 512})}) {
      ASSERT_FALSE(asked_for) << name;
      EXPECT_EQ(asked_for.error().code, Errc::invalid_argument) << asked_for.error().message;
    }
  }
  EXPECT_THAT(asked(), testing::IsEmpty());
  // Named like a volume, but a pool: group `volume` has one of such a name.
  for (const Result<void>& asked_for :
       {ours->delete_volume({"volume-pool"}), ours->extend_volume({"volume-pool"}, 512)}) {
    ASSERT_FALSE(asked_for);
    EXPECT_EQ(asked_for.error().code, Errc::conflict) << asked_for.error().message;
  }
  EXPECT_THAT(asked(), testing::Each(HasSubstr(" lvs ")));
}

TEST_F(LvmCommands, OneThatIsLeftToItselfKeepsItsTurnUntilItHasEnded) {
  auto vg = group(
      "[ -e $DIR/first ] && exit 0; touch $DIR/first; trap '' TERM\n"
      "until [ -e $DIR/go ]; do sleep 0.05; done",
      2s, 50ms);
  const auto made = vg.create_thick("volume-a", 512);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, Errc::timeout);
  EXPECT_THAT(made.error().message, HasSubstr("left to itself"));
  // Now it would come too early: the volume would be made behind it.
  const auto removed = vg.remove("volume-a");
  ASSERT_FALSE(removed);
  EXPECT_EQ(removed.error().code, Errc::busy);
  EXPECT_EQ(asked().size(), 1U);
  std::ofstream(directory_ / "go") << "on";
  Result<void> later;
  do later = vg.remove("volume-a");
  while (!later && later.error().code == Errc::busy);
  EXPECT_TRUE(later);
  EXPECT_EQ(asked().size(), 2U);
}

TEST_F(LvmCommands, ThickVolumesAreMadeWithoutTheSignaturesOfWhatWasThere) {
  auto vg = group("exit 0");
  ASSERT_TRUE(vg.create_thick("volume-a", 512));
  EXPECT_THAT(asked(), ElementsAre(EndsWith("lvcreate --yes -n volume-a -L 512b vg")));
}

}  // namespace
}  // namespace imagecache::test
