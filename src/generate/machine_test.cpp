// Free memory as the system's files tell it.
#include "generate/machine.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "checkpoint/testing.h"

namespace mlxlm {
namespace {

namespace fs = std::filesystem;

class Machine : public ::testing::Test {
 protected:
  Machine() {
    system_ = {(root_ / "proc").string(), (root_ / "cgroup").string()};
    write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n");
  }
  void write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  std::size_t available() const {
    return available_memory(system_);
  }

 private:
  testing::TempFolder folder_;
  const fs::path root_ = folder_.path();
  SystemFolders system_;
};

TEST_F(Machine, WithoutGroupsWhatIsFree) {
  EXPECT_EQ(available(), 8000u * 1024);
}

TEST_F(Machine, UnlimitedGroupsDoNotCount) {
  write("proc/self/cgroup", "0::/a\n");
  write("cgroup/a/memory.max", "max\n");
  EXPECT_EQ(available(), 8000u * 1024);
}

TEST_F(Machine, TheTightestGroupCountsWithoutItsCachedFiles) {
  write("proc/self/cgroup", "0::/a/b\n");
  write("cgroup/a/memory.max", "1000000\n");
  write("cgroup/a/memory.current", "700000\n");
  write(
      "cgroup/a/memory.stat",
      "anon 1\ninactive_file 100000\nactive_file 50000\n");
  write("cgroup/a/b/memory.max", "5000000\n");
  write("cgroup/a/b/memory.current", "1\n");
  EXPECT_EQ(available(), 450'000u);
}

TEST_F(Machine, VersionOneAndAFullGroup) {
  write("proc/self/cgroup", "3:cpu,cpuacct:/c\n7:memory:/m\n");
  write("cgroup/memory/m/memory.limit_in_bytes", "4096\n");
  write("cgroup/memory/m/memory.usage_in_bytes", "8192\n");
  write("cgroup/memory/m/memory.stat", "total_inactive_file 1000\n");
  EXPECT_EQ(available(), 0u);
  write("cgroup/memory/m/memory.stat", "total_inactive_file 5000\n");
  EXPECT_EQ(available(), 904u);
}

TEST(SequenceBudget, LeavesATenth) {
  EXPECT_EQ(sequence_budget(1000), 900u);
  EXPECT_EQ(sequence_budget(0), 0u);
}

TEST(MachineItself, HasMemory) {
  EXPECT_GT(available_memory(), 0u);
  EXPECT_GE(peak_resident_memory(), resident_memory() / 2);
}

} // namespace
} // namespace mlxlm
