#!/bin/sh
exec optc "$@"
