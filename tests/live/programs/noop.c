// SPDX-License-Identifier: Apache-2.0
/* noop: does nothing; stands under the name of a tool that Debian's base system does not have. */
int main(void)
{
	return 0;
}
