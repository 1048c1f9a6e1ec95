"""The product, broken on purpose: does the suite notice?"""
