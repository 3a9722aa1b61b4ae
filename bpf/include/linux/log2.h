/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Empty on purpose: BCC's prelude includes it, the program needs nothing from it. */
